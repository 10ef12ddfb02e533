"""The one thread of a database that writes, and gathers what is waiting into one commit."""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from trainable.errors import StorageError
from trainable.storage.sqlite import Sqlite

T = TypeVar("T")
_MOST_JOBS = 500  # in one transaction


@dataclass(frozen=True)
class _Job:
    work: Callable[[sa.Connection], Any]
    future: Future[Any] = field(default_factory=Future[Any])


class Writer:
    """Runs jobs that write, in order; everything queued during a commit shares the next one.

    A job must have no effect but on its connection: when one of a group fails, the group is
    rolled back and each job runs again on its own.
    """

    def __init__(self, backend: Sqlite) -> None:
        self._backend = backend
        self._jobs: deque[_Job] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="trainable-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sa.Connection], T]) -> Future[T]:
        """Queue `work`; the future gets what it returned once that is committed.

        Raises:
            StorageError: The database is closed.
        """
        job = _Job(work)
        with self._ready:
            if self._closed:
                raise StorageError("The database is closed.", remedy="Open the session again.")
            self._jobs.append(job)
            self._ready.notify()
        return cast("Future[T]", job.future)

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()

    def _serve(self) -> None:
        connection: sa.Connection | None = None
        while jobs := self._take():
            failed: list[BaseException] = []
            with _Kept(failed):
                connection = connection or self._backend.writing()
                self._run(connection, jobs)
            for job in jobs if failed else ():
                if not job.future.done():
                    job.future.set_exception(self._explain(failed[0]))
        if connection is not None:
            connection.close()

    def _take(self) -> list[_Job]:
        """Wait for jobs; none come any more once the writer is closed."""
        with self._ready:
            while not self._jobs and not self._closed:
                self._ready.wait()
            taken = [self._jobs.popleft() for _ in range(min(len(self._jobs), _MOST_JOBS))]
        wanted = [job for job in taken if job.future.set_running_or_notify_cancel()]
        return wanted if wanted or not taken else self._take()

    def _run(self, connection: sa.Connection, jobs: list[_Job]) -> None:
        transaction = self._backend.begin(connection)
        failed: list[BaseException] = []
        results: list[Any] = []
        with _Kept(failed), transaction:
            results = [job.work(connection) for job in jobs]
        if not failed:
            for job, result in zip(jobs, results, strict=True):
                job.future.set_result(result)
        elif len(jobs) == 1:
            jobs[0].future.set_exception(self._explain(failed[0]))
        else:
            for job in jobs:
                self._run(connection, [job])

    def _explain(self, error: BaseException) -> BaseException:
        if isinstance(error, (SQLAlchemyError, sqlite3.Error, OSError)):
            return self._backend.explain(error)
        return error


class _Kept:
    """Keeps whatever is raised within it: that belongs to those who wait for the jobs."""

    def __init__(self, errors: list[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is not None:
            self._errors.append(error)
        return True
