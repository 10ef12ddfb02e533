"""How runs start, live and end in the database, inside a transaction of the writer."""

from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa
from sqlmodel import Session, col, select

from trainable.errors import SessionBusyError
from trainable.events import AgentError, Event, StateChange
from trainable.stages import RunState, Stage, check_can_start, session_state
from trainable.storage.events import check_lease, last_seq, store_events
from trainable.storage.lease import EXPIRY, Lease, owner_is_dead
from trainable.storage.sqlite import Sqlite
from trainable.storage.tables import LeaseRow, RunRow, SessionRow, utc_now


def passed_stages(runs: Iterable[RunRow]) -> set[Stage]:
    """Return the stages whose latest run is done and not stale; `runs` in start order."""
    latest = {Stage(run.stage): run for run in runs}
    return {s for s, run in latest.items() if run.state == RunState.DONE and not run.stale}


def session_runs(session: Session, session_id: str) -> list[RunRow]:
    """Return the session's runs in start order."""
    query = select(RunRow).where(RunRow.session_id == session_id).order_by(col(RunRow.number))
    return list(session.exec(query))


def start_run(
    connection: sa.Connection, run: RunRow, owner: str, events: Sequence[Event]
) -> tuple[Lease, list[Event]]:
    """See `Database.start_run`."""
    end_dead_runs(connection, run.session_id)
    before = last_seq(connection, run.session_id)
    with Session(connection, expire_on_commit=False) as session:
        runs = session_runs(session, run.session_id)
        stage = Stage(run.stage)
        if any(old.state == RunState.RUNNING for old in runs):
            raise SessionBusyError(
                "This session is already running a stage.",
                remedy="Wait for it to end, or cancel it first.",
            )
        check_can_start(stage, passed_stages(runs))
        for old in runs:
            if old.stage in stage.later:
                old.stale = True
        run.number = len(runs) + 1
        run.first_seq = before + 1
        session.add(run)
        lease = _take_lease(session, run, owner)
        _set_state(session, run.session_id, [*runs, run])
        session.flush()
    return lease, store_events(connection, run.session_id, events)


def end_run(
    connection: sa.Connection,
    lease: Lease,
    state: RunState,
    reason: str | None,
    events: Sequence[Event],
) -> list[Event]:
    """See `Database.end_run`."""
    check_lease(connection, lease)
    stored = store_events(connection, lease.session_id, events)
    with Session(connection, expire_on_commit=False) as session:
        runs = session_runs(session, lease.session_id)
        for run in runs:
            if run.id == lease.run_id:
                run.state, run.reason, run.ended_at = state.value, reason, utc_now()
                run.last_seq = last_seq(connection, lease.session_id)
        _set_state(session, lease.session_id, runs)
        holder = session.get_one(LeaseRow, lease.session_id)
        holder.owner = holder.run_id = None
        session.flush()
    return stored


def extend_lease(connection: sa.Connection, lease: Lease) -> None:
    """Keep the lease for another while; LeaseLostError if it is another's by now."""
    check_lease(connection, lease)
    connection.execute(
        sa.update(LeaseRow)
        .where(col(LeaseRow.session_id) == lease.session_id)
        .values(expires_at=Sqlite.clock + EXPIRY)
    )


def request_cancel(connection: sa.Connection, session_id: str, reason: str) -> bool:
    """See `Database.request_cancel`."""
    end_dead_runs(connection, session_id)
    running = sa.and_(
        col(RunRow.session_id) == session_id, col(RunRow.state) == RunState.RUNNING.value
    )
    found = connection.execute(
        sa.update(RunRow)
        .where(running)
        .values(cancel_reason=sa.func.coalesce(col(RunRow.cancel_reason), reason))
    )
    return found.rowcount > 0


def dead_sessions(connection: sa.Connection, session_id: str | None = None) -> list[str]:
    """Return the sessions (of all, or of the one) that are held by a process that is gone."""
    query = sa.select(
        col(LeaseRow.session_id), col(LeaseRow.owner), col(LeaseRow.expires_at) < Sqlite.clock
    ).where(col(LeaseRow.owner).is_not(None))
    if session_id is not None:
        query = query.where(col(LeaseRow.session_id) == session_id)
    held = connection.execute(query).all()
    return [
        found
        for found, owner, expired in held
        if owner is not None and owner_is_dead(owner, expired=bool(expired))
    ]


def end_dead_runs(connection: sa.Connection, session_id: str | None = None) -> None:
    """See `Database.reap`."""
    for dead in dead_sessions(connection, session_id):
        with Session(connection) as session:
            holder = session.get_one(LeaseRow, dead)
            run = session.get_one(RunRow, holder.run_id)
            lease = Lease(
                session_id=dead, run_id=run.id, owner=holder.owner or "", epoch=holder.epoch
            )
            stage = Stage(run.stage)
        events: list[Event] = [
            AgentError(
                error=f"The process that ran {stage.label} ended before the stage did.",
                code="interrupted",
                remedy=f"Everything up to here is kept. Run {stage.value!r} again.",
                stage=stage,
            ),
            StateChange(state=RunState.FAILED.value, stage=stage),
        ]
        end_run(connection, lease, RunState.FAILED, "interrupted", events)


def _take_lease(session: Session, run: RunRow, owner: str) -> Lease:
    holder = session.get(LeaseRow, run.session_id) or LeaseRow(session_id=run.session_id)
    holder.owner, holder.run_id, holder.epoch = owner, run.id, holder.epoch + 1
    session.add(holder)
    session.flush()
    lease = Lease(session_id=run.session_id, run_id=run.id, owner=owner, epoch=holder.epoch)
    extend_lease(session.connection(), lease)
    return lease


def _set_state(session: Session, session_id: str, runs: Collection[RunRow]) -> None:
    row = session.get_one(SessionRow, session_id)
    row.state = session_state([(Stage(run.stage), RunState(run.state)) for run in runs])
    row.updated_at = utc_now()
