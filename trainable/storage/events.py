"""How events get into the database, inside a transaction of the writer."""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, cast

import sqlalchemy as sa
from pydantic_core import PydanticSerializationError

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
    MessageRow,
    new_id,
    utc_now,
)

AnyEvent = Event | UnknownEvent
"""What a reader of the log may get."""

_LARGEST = 2**63 - 1  # what a BIGINT holds; a step that code logged may be any integer
# What runs for every event is in the driver's own terms, since Core would cost three times as
# much; another database needs its own sign in place of the question mark.
_TAKE_SEQ = "UPDATE sessions SET last_seq = last_seq + ?, updated_at = ? WHERE id = ?"
_LAST_SEQ = "SELECT last_seq FROM sessions WHERE id = ?"
_HOLDER = "SELECT owner, epoch FROM leases WHERE session_id = ?"
_EVENTS = "INSERT INTO events (session_id, seq, type, data) VALUES (?, ?, ?, ?)"
_METRICS = (
    "INSERT INTO metrics (session_id, stage, step, name, value, run_tag, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_MESSAGES = sa.insert(MessageRow)


def check_lease(connection: sa.Connection, lease: Lease) -> None:
    """Raise LeaseLostError unless `lease` is the current one of its session."""
    held = connection.exec_driver_sql(_HOLDER, (lease.session_id,)).one_or_none()
    if held is None or tuple(held) != (lease.owner, lease.epoch):
        raise LeaseLostError(
            "Another process took this session over.",
            remedy="Follow the run there, or start the stage again.",
        )


def last_seq(connection: sa.Connection, session_id: str) -> int:
    """Return `seq` of the session's newest event, 0 without any.

    Raises:
        NotFoundError: There is no such session.
    """
    found = connection.exec_driver_sql(_LAST_SEQ, (session_id,)).scalar_one_or_none()
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
    connection.exec_driver_sql(_TAKE_SEQ, (len(events), _moment(utc_now()), session_id))
    first = last_seq(connection, session_id) - len(events) + 1
    stored: list[Event] = []
    rows: list[tuple[str, int, str, str]] = []
    for seq, event in enumerate(events, first):
        numbered, data = _wire(event.model_copy(update={"seq": seq, "session_id": session_id}))
        stored.append(numbered)
        rows.append((session_id, seq, numbered.type, data))
    connection.exec_driver_sql(_EVENTS, rows)
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
        clean = type(event).model_validate(unicode_only(event.model_dump()))
        return clean, clean.model_dump_json()


def unicode_only(value: Any) -> Any:
    """Return `value` with every text in it made one that can be encoded."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            items = cast("dict[Any, Any]", value).items()
            return {unicode_only(key): unicode_only(inner) for key, inner in items}
        case list() | tuple():
            return [unicode_only(inner) for inner in cast("list[Any]", value)]
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
    time, session_id, usual = _moment(batch.time), batch.session_id, batch.stage
    usual_name = usual.value if usual else None
    rows: list[tuple[str, str | None, int, str, float | None, str | None, str]] = []
    for item in batch.items:
        stage, step, value = item["stage"], item["step"], item["value"]
        rows.append(
            (
                session_id,
                usual_name if stage is None or stage is usual else stage.value,
                step if -_LARGEST <= step <= _LARGEST else _LARGEST,
                item["name"],
                value if value is None or isfinite(value) else None,
                item["run_tag"],
                time,
            )
        )
    connection.exec_driver_sql(_METRICS, rows)


def _moment(time: datetime) -> str:
    """Return `time` as `UtcDateTime` has SQLite keep it."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
