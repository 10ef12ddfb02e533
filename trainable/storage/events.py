"""How events get into the database, inside a transaction of the writer."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any, cast

import sqlalchemy as sa
from pydantic_core import PydanticSerializationError
from sqlmodel import col

from trainable.errors import LeaseLostError, NotFoundError
from trainable.events import (
    AgentMessage,
    Event,
    MetricsBatch,
    ToolEnd,
    UnknownEvent,
    UserMessage,
)
from trainable.storage.lease import Lease
from trainable.storage.tables import (
    EventRow,
    LeaseRow,
    MessageRow,
    SessionRow,
    UtcDateTime,
    new_id,
    utc_now,
)

AnyEvent = Event | UnknownEvent
"""What a reader of the log may get."""

_LARGEST = 2**63 - 1  # what a BIGINT holds; a step that code logged may be any integer
_TAKE_SEQ = (
    sa.update(SessionRow)
    .where(col(SessionRow.id) == sa.bindparam("session"))
    .values(
        last_seq=col(SessionRow.last_seq) + sa.bindparam("count"),
        updated_at=sa.bindparam("now", type_=UtcDateTime()),
    )
)
_LAST_SEQ = sa.select(col(SessionRow.last_seq)).where(col(SessionRow.id) == sa.bindparam("session"))
_HOLDER = sa.select(col(LeaseRow.owner), col(LeaseRow.epoch)).where(
    col(LeaseRow.session_id) == sa.bindparam("session")
)
_EVENTS = sa.insert(EventRow)
_MESSAGES = sa.insert(MessageRow)
_METRICS = (
    "INSERT INTO metrics (session_id, stage, step, name, value, run_tag, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def check_lease(connection: sa.Connection, lease: Lease) -> None:
    """Raise LeaseLostError unless `lease` is the current one of its session."""
    held = connection.execute(_HOLDER, {"session": lease.session_id}).one_or_none()
    if held is None or (held[0], held[1]) != (lease.owner, lease.epoch):
        raise LeaseLostError(
            "Another process took this session over.",
            remedy="Follow the run there, or start the stage again.",
        )


def last_seq(connection: sa.Connection, session_id: str) -> int:
    """Return `seq` of the session's newest event, 0 without any.

    Raises:
        NotFoundError: There is no such session.
    """
    found = connection.execute(_LAST_SEQ, {"session": session_id}).scalar_one_or_none()
    if found is None:
        raise NotFoundError(
            f"There is no session {session_id!r}.", remedy="List them with 'trainable sessions'."
        )
    return found


def store_events(
    connection: sa.Connection, session_id: str, events: Sequence[Event]
) -> list[Event]:
    """Write `events` with the next numbers of the session's log, and return them so.

    Raises:
        NotFoundError: There is no such session.
    """
    if not events:
        return []
    connection.execute(_TAKE_SEQ, {"session": session_id, "count": len(events), "now": utc_now()})
    first = last_seq(connection, session_id) - len(events) + 1
    stored: list[Event] = []
    rows: list[dict[str, Any]] = []
    for seq, event in enumerate(events, first):
        numbered, data = _wire(event.model_copy(update={"seq": seq, "session_id": session_id}))
        stored.append(numbered)
        rows.append({"session_id": session_id, "seq": seq, "type": numbered.type, "data": data})
    connection.execute(_EVENTS, rows)
    if messages := [row for event in stored if (row := _message(event)) is not None]:
        connection.execute(_MESSAGES, messages)
    for event in stored:
        if isinstance(event, MetricsBatch) and event.items:
            _store_metrics(connection, event)
    return stored


def _wire(event: Event) -> tuple[Event, str]:
    """Return the event and its JSON, both without text that is not Unicode."""
    try:
        return event, event.model_dump_json()
    except PydanticSerializationError:
        clean = type(event).model_validate(_clean(event.model_dump()))
        return clean, clean.model_dump_json()


def _clean(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            items = cast("dict[Any, Any]", value).items()
            return {_clean(key): _clean(inner) for key, inner in items}
        case list() | tuple():
            return [_clean(inner) for inner in cast("list[Any]", value)]
        case _:
            return value


def _message(event: Event) -> dict[str, Any] | None:
    match event:
        case UserMessage(text=text):
            role, content, more = "user", text, dict[str, Any]()
        case AgentMessage(text=text):
            role, content, more = "assistant", text, dict[str, Any]()
        case ToolEnd(output=output):
            role, content = "tool", output
            more = event.model_dump(include={"tool", "exit_code", "seconds", "timed_out"})
        case _:
            return None
    return {
        "id": new_id(),
        "session_id": event.session_id,
        "seq": event.seq,
        "role": role,
        "content": content,
        "metadata": {"type": event.type, "stage": event.stage, **more},
        "created_at": event.time,
    }


def _store_metrics(connection: sa.Connection, batch: MetricsBatch) -> None:
    """Write the batch's numbers in the driver's own terms: Core would cost three times as much."""
    time = batch.time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    session_id, usual = batch.session_id, batch.stage
    usual_name = usual.value if usual else None
    rows = [
        (
            session_id,
            usual_name if item.stage is None or item.stage is usual else item.stage.value,
            item.step if -_LARGEST <= item.step <= _LARGEST else _LARGEST,
            item.name,
            item.value,
            item.run_tag,
            time,
        )
        for item in batch.items
    ]
    connection.exec_driver_sql(_METRICS, rows)
