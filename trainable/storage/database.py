"""The database: everything that Trainable remembers, for all sessions of all processes."""

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError
from sqlmodel import Session, col, select

from trainable.errors import NotFoundError, StorageError
from trainable.events import BaseEvent, Event, parse_event
from trainable.stages import RunState
from trainable.storage import runs
from trainable.storage.events import (
    AnyEvent,
    check_lease,
    last_seq,
    store_events,
    unicode_only,
)
from trainable.storage.lease import Lease
from trainable.storage.migrate import migrate
from trainable.storage.sqlite import Sqlite
from trainable.storage.tables import (
    ArtifactRow,
    DatasetMetaRow,
    EventRow,
    ExperimentRow,
    MessageRow,
    MetricRow,
    Row,
    RunRow,
    SessionRow,
)
from trainable.storage.writer import Writer

R = TypeVar("R", bound=Row)
E = TypeVar("E", bound=BaseEvent)


class MetricPoint(NamedTuple):
    """One logged number, as `Database.metrics` returns it."""

    stage: str | None
    step: int
    name: str
    value: float | None
    run_tag: str | None
    time: datetime


class Database:
    """Experiments, sessions, runs and events, shared by any number of threads and processes.

    Each call is one short transaction; one that writes returns after the commit. A failure of
    the database raises StorageError with the remedy, and the database stays usable after it.
    """

    def __init__(self, backend: Sqlite) -> None:
        self._backend = backend
        self._writer = Writer(backend)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database at an SQLAlchemy URL; a missing one is made, an old one upgraded.

        Raises:
            StorageError: It cannot be opened, or a newer Trainable has written it.
        """
        backend = Sqlite(_sqlite_path(url))
        with ExitStack() as undo:
            undo.callback(backend.close)
            with backend.opening():
                backend.start()
                with backend.migrating() as connection:
                    migrate(connection, str(backend.path))
            undo.pop_all()
        return cls(backend)

    def close(self) -> None:
        """Finish what is being written, then close every connection."""
        self._writer.close()
        self._backend.close()

    def add_experiment(self, row: ExperimentRow) -> ExperimentRow:
        """Store a new experiment."""
        return self._add(row)

    def experiment(self, experiment_id: str) -> ExperimentRow:
        """Return the experiment; NotFoundError if there is none."""
        return self._get(ExperimentRow, experiment_id, "experiment")

    def experiments(self) -> list[ExperimentRow]:
        """Return all experiments, newest first."""
        with self._session() as session:
            return list(
                session.exec(select(ExperimentRow).order_by(col(ExperimentRow.created_at).desc()))
            )

    def add_session(self, row: SessionRow) -> SessionRow:
        """Store a new session; NotFoundError if its experiment is not there."""
        self.experiment(row.experiment_id)
        return self._add(row)

    def session(self, session_id: str) -> SessionRow:
        """Return the session with exactly this id; NotFoundError if there is none."""
        return self._get(SessionRow, session_id, "session")

    def sessions(self) -> list[SessionRow]:
        """Return all sessions, newest first."""
        with self._session() as session:
            return list(
                session.exec(select(SessionRow).order_by(col(SessionRow.created_at).desc()))
            )

    def find_session(self, prefix: str) -> SessionRow:
        """Return the one session whose id begins with `prefix`, or the `"latest"` one.

        Raises:
            NotFoundError: None does, or several do.
        """
        query = select(SessionRow).order_by(col(SessionRow.created_at).desc())
        if prefix != "latest":
            start = prefix.strip().lower()
            query = query.where(col(SessionRow.id).startswith(start, autoescape=True))
        with self._session() as session:
            found = list(session.exec(query.limit(1) if prefix == "latest" else query))
        if len(found) == 1:
            return found[0]
        if not found:
            text = "There is no session yet" if prefix == "latest" else f"No id is like {prefix!r}"
            raise NotFoundError(f"{text}.", remedy="List the sessions with 'trainable sessions'.")
        raise NotFoundError(
            f"{len(found)} sessions have an id that begins with {prefix!r}.",
            remedy="Give more characters of it.",
        )

    def runs(self, session_id: str) -> list[RunRow]:
        """Return the session's runs in the order they started."""
        with self._session() as session:
            return runs.session_runs(session, session_id)

    def start_run(
        self, run: RunRow, owner: str, events: Sequence[Event]
    ) -> tuple[Lease, list[Event]]:
        """Start a run of a stage for `owner`: its row, the lease and its first events, or nothing.

        Runs of later stages become stale. A run whose process is gone is ended first.

        Raises:
            SessionBusyError: The session is running a stage.
            StageOrderError: The stage before has not passed.
        """

        def work(connection: sa.Connection) -> tuple[Lease, list[Event]]:
            return runs.start_run(connection, _copy(run), owner, events)

        return self._writer.submit(work).result()

    def append(
        self, session_id: str, events: Sequence[Event], lease: Lease | None = None
    ) -> list[Event]:
        """Store events with the next numbers of the session's log, and return them with these.

        Metrics and messages get their own rows as well. Transient events are left out.

        Raises:
            LeaseLostError: `lease` was given, and another process holds it by now.
            NotFoundError: There is no such session.
        """
        return self.submit(session_id, events, lease).result()

    def submit(
        self, session_id: str, events: Sequence[Event], lease: Lease | None = None
    ) -> Future[list[Event]]:
        """Do what `append` does without waiting for it."""
        kept = [event for event in events if not event.transient]

        def work(connection: sa.Connection) -> list[Event]:
            if lease is not None:
                check_lease(connection, lease)
            return store_events(connection, session_id, kept)

        return self._writer.submit(work)

    def end_run(
        self, lease: Lease, state: RunState, reason: str | None, events: Sequence[Event]
    ) -> list[Event]:
        """End the run that holds `lease`, with its last events, and release the lease.

        Raises:
            LeaseLostError: Another process holds it by now; nothing was stored.
        """

        def work(connection: sa.Connection) -> list[Event]:
            return runs.end_run(connection, lease, state, reason, events)

        return self._writer.submit(work).result()

    def heartbeat(self, lease: Lease) -> str | None:
        """Extend the lease; return why the run should be cancelled, if someone asked for that.

        Raises:
            LeaseLostError: Another process holds it by now.
        """
        self._writer.submit(lambda connection: runs.extend_lease(connection, lease)).result()
        return self.cancel_reason(lease)

    def cancel_reason(self, lease: Lease) -> str | None:
        """Return why the run should be cancelled, if someone asked for that; only reads."""
        query = sa.select(col(RunRow.cancel_reason)).where(col(RunRow.id) == lease.run_id)
        with self._backend.reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    def request_cancel(self, session_id: str, reason: str) -> bool:
        """Ask the process that runs the session to stop; False when nothing runs."""

        def work(connection: sa.Connection) -> bool:
            return runs.request_cancel(connection, session_id, reason)

        return self._writer.submit(work).result()

    def reap(self) -> None:
        """Mark runs whose process is gone as failed (`interrupted`); mostly, this only reads."""
        with self._backend.reading() as connection:
            dead = runs.dead_sessions(connection)
        if dead:
            self._writer.submit(runs.end_dead_runs).result()

    def read_events(self, session_id: str, after: int = 0, limit: int = 1000) -> list[AnyEvent]:
        """Return the stored events with `seq > after`, at most `limit`, in order."""
        query = (
            sa.select(col(EventRow.data))
            .where(col(EventRow.session_id) == session_id, col(EventRow.seq) > after)
            .order_by(col(EventRow.seq))
            .limit(limit)
        )
        with self._backend.reading() as connection:
            found = connection.execute(query).scalars().all()
        return [parse_event(data) for data in found]

    def events_of(self, session_id: str, kind: type[E]) -> list[E]:
        """Return all stored events of one type, in order."""
        query = (
            sa.select(col(EventRow.data))
            .where(
                col(EventRow.session_id) == session_id,
                col(EventRow.type) == kind.model_fields["type"].default,
            )
            .order_by(col(EventRow.seq))
        )
        with self._backend.reading() as connection:
            found = connection.execute(query).scalars().all()
        return [kind.model_validate_json(data) for data in found]

    def last_seq(self, session_id: str) -> int:
        """Return `seq` of the newest event, 0 without any; NotFoundError without the session."""
        with self._backend.reading() as connection:
            return last_seq(connection, session_id)

    def messages(self, session_id: str) -> list[MessageRow]:
        """Return the conversation, in order."""
        query = select(MessageRow).where(MessageRow.session_id == session_id)
        with self._session() as session:
            return list(session.exec(query.order_by(col(MessageRow.seq))))

    def metrics(self, session_id: str) -> list[MetricPoint]:
        """Return every number that the session logged, in order."""
        query = (
            sa.select(
                col(MetricRow.stage),
                col(MetricRow.step),
                col(MetricRow.name),
                col(MetricRow.value),
                col(MetricRow.run_tag),
                col(MetricRow.created_at),
            )
            .where(col(MetricRow.session_id) == session_id)
            .order_by(col(MetricRow.id))
        )
        with self._backend.reading() as connection:
            return [MetricPoint(*row) for row in connection.execute(query)]

    def set_artifacts(self, session_id: str, stage: str, rows: Sequence[ArtifactRow]) -> None:
        """Make `rows` the artifacts of the stage, instead of those it had."""

        def work(connection: sa.Connection) -> None:
            old = sa.delete(ArtifactRow).where(
                col(ArtifactRow.session_id) == session_id, col(ArtifactRow.stage) == stage
            )
            connection.execute(old)
            _insert(connection, rows)

        self._writer.submit(work).result()

    def artifacts(self, session_id: str, stage: str | None = None) -> list[ArtifactRow]:
        """Return the artifacts of the session, or of one stage, by path."""
        query = select(ArtifactRow).where(ArtifactRow.session_id == session_id)
        if stage is not None:
            query = query.where(ArtifactRow.stage == stage)
        with self._session() as session:
            return list(session.exec(query.order_by(col(ArtifactRow.path))))

    def set_dataset_meta(self, row: DatasetMetaRow) -> None:
        """Store what Prep made of the session's data, instead of what was known."""

        def work(connection: sa.Connection) -> None:
            old = col(DatasetMetaRow.session_id) == row.session_id
            connection.execute(sa.delete(DatasetMetaRow).where(old))
            _insert(connection, [row])

        self._writer.submit(work).result()

    def dataset_meta(self, session_id: str) -> DatasetMetaRow | None:
        """Return what Prep made of the session's data, None before it has."""
        query = select(DatasetMetaRow).where(DatasetMetaRow.session_id == session_id)
        with self._session() as session:
            return session.exec(query).first()

    def change_counter(self) -> int:
        """Return a number that changes with every write of any process; costs microseconds."""
        return self._backend.change_counter()

    @contextmanager
    def _session(self) -> Generator[Session]:
        with (
            self._backend.reading() as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session

    def _get(self, table: type[R], key: str, kind: str) -> R:
        with self._session() as session:
            found = session.get(table, key)
        if found is None:
            raise NotFoundError(
                f"There is no {kind} {key!r}.", remedy=f"List them with 'trainable {kind}s'."
            )
        return found

    def _add(self, row: R) -> R:
        self._writer.submit(lambda connection: _insert(connection, [row])).result()
        return row


def _insert(connection: sa.Connection, rows: Sequence[Row]) -> None:
    with Session(connection) as session:
        session.add_all([_copy(row) for row in rows])
        session.flush()


def _copy(row: R) -> R:
    """Return an unattached copy, since a transaction may run again after it failed."""
    return type(row)(**unicode_only(row.model_dump()))


def _sqlite_path(url: str) -> Path:
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is not None and parsed.get_backend_name() == "sqlite":
        name = parsed.database or ":memory:"
        if name != ":memory:":
            return Path(name).expanduser().absolute()
    what = parsed.render_as_string(hide_password=True) if parsed else "DATABASE_URL"
    raise StorageError(
        f"{what!r} is not a database that Trainable can open.",
        remedy="Give the path of an SQLite file as 'sqlite:////folder/trainable.db', or unset "
        "DATABASE_URL.",
        code="storage_url",
    )
