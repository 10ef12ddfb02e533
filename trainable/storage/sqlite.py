"""What is particular to SQLite: how a file is opened, locked, watched, and how it fails."""

import contextlib
import fcntl
import json
import math
import os
import random
import sqlite3
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from trainable.errors import StorageError

PATIENCE = 60.0
"""Seconds a write waits for other processes before it gives up."""
_POLITENESS = 2.0  # seconds to wait in the line before trying without it
_NAP = 0.001

_FULL = "Free some space on the disk; what was stored before is safe."
_REMEDIES = {
    "SQLITE_FULL": ("is full", _FULL, "storage_full"),
    "SQLITE_READONLY": (
        "is read-only",
        "Make the file and its folder writable, or set TRAINABLE_HOME to a folder that is.",
        "storage_read_only",
    ),
    "SQLITE_CANTOPEN": (
        "cannot be opened",
        "Check that its folder exists and is writable, or set TRAINABLE_HOME to one that is.",
        "storage_unavailable",
    ),
    "SQLITE_IOERR": (
        "cannot be read or written",
        "The disk may be full or failing: check it, then try again.",
        "storage_io",
    ),
    "SQLITE_BUSY": (
        "was kept busy by other processes for too long",
        "Try again, or end the process that holds it.",
        "storage_busy",
    ),
    "SQLITE_NOTADB": (
        "is not a database of Trainable",
        "Move the file away, or set TRAINABLE_HOME to another folder.",
        "storage_corrupt",
    ),
    "SQLITE_CONSTRAINT": (
        "refused a row that contradicts another",
        "This is a defect of Trainable: please report it.",
        "storage_conflict",
    ),
    "SQLITE_CORRUPT": (
        "is damaged",
        "Put a backup in its place, or move it away to start with an empty one.",
        "storage_corrupt",
    ),
}


class Sqlite:
    """One database file; everything in here may be called from any thread."""

    clock = sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Float)
    """SQL for the database's clock, as Unix time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = _engine(path)
        self._line = -1
        self._identity: tuple[int, int] | None = None
        self._counter: sqlite3.Connection | None = None
        self._counting = threading.Lock()

    @contextlib.contextmanager
    def opening(self) -> Generator[None]:
        """Keep other processes from opening the file meanwhile; makes its folder.

        Raises:
            StorageError: The folder cannot be made or written to.
        """
        with self.errors():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._line = os.open(f"{self.path}.lock", flags, 0o600)
            with self._first_in_line(PATIENCE) as first:
                if not first:
                    raise StorageError(
                        f"Another process keeps the database {str(self.path)!r} locked.",
                        remedy="Try again, or end that process.",
                        code="storage_busy",
                    )
                yield

    def start(self) -> None:
        """Prepare the file for readers that don't wait for a writer, and remember which it is."""
        with self.errors():
            connection = sqlite3.connect(self.path, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
            self._identity = _identity(self.path)

    def check(self) -> None:
        """Raise StorageError if the file was removed or replaced; SQLite would not notice."""
        if self._identity is not None and _identity(self.path) != self._identity:
            raise StorageError(
                f"The database {str(self.path)!r} was removed or replaced while it was in use.",
                remedy="Put the file back, or restart Python to begin with an empty database.",
                code="storage_gone",
            )

    def begin(self, connection: sa.Connection) -> sa.RootTransaction:
        """Start a transaction that may write, waiting for its turn among all processes.

        SQLite lets whoever comes first have the lock. So processes stand in a line for it, or
        one that writes without a pause would keep the others waiting for seconds.
        """
        with self._first_in_line(_POLITENESS):
            return self._begin(connection)

    def _begin(self, connection: sa.Connection) -> sa.RootTransaction:
        deadline = time.monotonic() + PATIENCE
        while True:
            self.check()
            try:
                return connection.begin()
            except sqlite3.OperationalError as error:
                if _name(error) not in {"SQLITE_BUSY", "SQLITE_LOCKED"}:
                    raise
                if time.monotonic() > deadline:
                    raise
            _nap()

    @contextlib.contextmanager
    def _first_in_line(self, patience: float) -> Generator[bool]:
        """Say whether this process got to the head of the line, and stay there meanwhile."""
        deadline = time.monotonic() + patience
        first = _try_lock(self._line)
        while not first and time.monotonic() < deadline:
            _nap()
            first = _try_lock(self._line)
        try:
            yield first
        finally:
            fcntl.flock(self._line, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def migrating(self) -> Generator[sa.Connection]:
        """Give a transaction that may rebuild tables, which SQLite can't while it checks keys.

        To be called while `opening`.
        """
        with self.errors(), self.writing() as connection:
            _driver(connection).execute("PRAGMA foreign_keys = OFF")
            with self._begin(connection):
                yield connection
            connection.invalidate()

    def writing(self) -> sa.Connection:
        """Return a connection whose transactions are started by `begin`, and never used to read."""
        connection = self.engine.connect().execution_options(trainable_writes=True)
        _driver(connection).execute("PRAGMA busy_timeout = 0")  # `begin` waits, in shorter naps
        return connection

    @contextlib.contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """Give a connection for one read of a consistent state."""
        with self.errors():
            self.check()
            with self.engine.connect() as connection:
                yield connection

    def change_counter(self) -> int:
        """Return a number that is another one after any connection has written."""
        with self.errors(), self._counting:
            self.check()
            if self._counter is None:
                self._counter = sqlite3.connect(
                    self.path, isolation_level=None, check_same_thread=False
                )
            return self._counter.execute("PRAGMA data_version").fetchone()[0]

    @contextlib.contextmanager
    def errors(self) -> Generator[None]:
        """Turn what the driver raises into StorageError."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self.explain(error) from None

    def explain(self, error: SQLAlchemyError | sqlite3.Error | OSError) -> StorageError:
        """Return the StorageError that says what `error` means for the user."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        name = _name(cause)
        happened, remedy, code = _REMEDIES.get(
            name, ("cannot be used", "Run 'trainable doctor' to find out more.", "storage")
        )
        text = f"The database {str(self.path)!r} {happened} ({_brief(cause)})."
        return StorageError(text, remedy=remedy, code=code)

    def close(self) -> None:
        """Close every connection."""
        with self._counting:
            if self._counter is not None:
                self._counter.close()
                self._counter = None
        self.engine.dispose()
        if self._line >= 0:
            os.close(self._line)
            self._line = -1


def strict_json(value: Any) -> str:
    """Return `value` as JSON that every parser reads: NaN and infinities become null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {k: _finite(v) for k, v in cast("dict[Any, Any]", value).items()}
        case list() | tuple():
            return [_finite(v) for v in cast("list[Any]", value)]
        case _:
            return value


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        json_serializer=strict_json,
        max_overflow=-1,
        connect_args={"timeout": 10.0, "check_same_thread": False},
    )
    event.listen(engine, "connect", _on_connect)  # pyright: ignore[reportUnknownMemberType]
    event.listen(engine, "begin", _on_begin)  # pyright: ignore[reportUnknownMemberType]
    return engine


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _on_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("trainable_writes")
    _driver(connection).execute("BEGIN IMMEDIATE" if writes else "BEGIN")


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _nap() -> None:
    time.sleep(random.uniform(_NAP / 2, _NAP * 1.5))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _name(error: BaseException | None) -> str:
    if isinstance(error, PermissionError):
        return "SQLITE_READONLY"
    if isinstance(error, OSError):
        return {28: "SQLITE_FULL", 30: "SQLITE_READONLY"}.get(error.errno or 0, "SQLITE_CANTOPEN")
    name: str = getattr(error, "sqlite_errorname", "")
    return next((known for known in (*_REMEDIES, "SQLITE_LOCKED") if name.startswith(known)), name)


def _brief(error: BaseException | None) -> str:
    if isinstance(error, OSError):
        return os.strerror(error.errno or 0)
    return str(error).splitlines()[0] if str(error) else type(error).__name__
