"""A run as its user holds it: iterate its events, wait for its end, or cancel it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from trainable.artifacts import Artifact
from trainable.drive import Drive, Outcome, Plan
from trainable.errors import StorageError
from trainable.events import Event, RunStarted, StateChange, UnknownEvent, ValidationResult
from trainable.home import Home
from trainable.stages import RunState, Stage
from trainable.storage.lease import Lease, this_owner
from trainable.storage.tables import RunRow

Batch = list[Event | UnknownEvent]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a finished stage delivered."""

    stage: Stage
    run_id: str
    seconds: float
    report: str = field(repr=False)
    """The stage's report, as markdown."""
    artifacts: list[Artifact] = field(repr=False)
    validation: ValidationResult = field(repr=False)


class Run:
    """One execution of one stage, already going on the library's own thread.

    `async for` and `for` yield its events until it ends and never raise for a failed stage;
    leaving the loop ends nothing. `await` and `wait` return a `StageResult` or raise.
    """

    def __init__(self, home: Home, plan: Plan, *, reason: str) -> None:
        """Start the run; it has its lease and its first events when this returns.

        Raises:
            StageOrderError: The stage before has not passed.
            SessionBusyError: The session is running a stage already.
            StorageError: The database or the volume cannot be used.
        """
        self.stage = plan.brief.stage
        self._home = home
        self._session_id = plan.session.id
        self._log = home.log(plan.session.id)
        self._lease, started = _start(home, plan, reason)
        self.id = self._lease.run_id
        self._after = started[0].seq - 1
        self._last_seq: int | None = None
        self._drive = Drive(home, plan, self._lease)
        self._ended: Future[Outcome] = home.loop.submit(self._do())

    @property
    def status(self) -> RunState:
        """Where the run stands."""
        if not self._ended.done():
            return RunState.RUNNING
        return RunState.FAILED if self._ended.exception() else self._ended.result().state

    def cancel(self, reason: str = "You stopped this run.") -> None:
        """Ask the run to stop; its code is gone within 5 seconds and `wait` then raises."""
        self._home.loop.call(self._drive.stop, reason)

    def wait(self, timeout: float | None = None) -> StageResult:
        """Block until the run has ended; Ctrl-C cancels it.

        Raises:
            StageFailed: The stage did not end well; `code` says why.
            RunCancelled: The run was stopped.
            StorageError: The run's end could not be stored.
            TimeoutError: It is still going after `timeout` seconds, and goes on.
        """
        try:
            outcome = self._ended.result(timeout)
        except KeyboardInterrupt:
            self.cancel("Interrupted from the keyboard.")
            self._ended.result()
            raise
        return self._result(outcome)

    def __await__(self) -> Generator[object, None, StageResult]:
        return self._wait_async().__await__()

    async def __aiter__(self) -> AsyncIterator[Event | UnknownEvent]:
        async for event in follow(self._home, self._session_id, self._after, self._until):
            yield event

    def __iter__(self) -> Iterator[Event | UnknownEvent]:
        batches = self._log.follow(self._after, self._until)
        try:
            while batch := self._home.loop.submit(_next(batches)).result():
                yield from batch
        except KeyboardInterrupt:
            self.cancel("Interrupted from the keyboard.")
            self._ended.result()
            raise

    def __repr__(self) -> str:
        return f"<Run {self.stage.value} of {self._session_id[:8]}: {self.status.value}>"

    async def _do(self) -> Outcome:
        try:
            return await self._drive.drive()
        except StorageError:
            self._home.unfinished[self._session_id] = self._lease
            raise
        finally:
            self._last_seq = await asyncio.to_thread(self._home.database.last_seq, self._session_id)
            self._log.wake()

    async def _wait_async(self) -> StageResult:
        try:
            outcome = await asyncio.shield(asyncio.wrap_future(self._ended))
        except asyncio.CancelledError:
            self.cancel("The awaiting task was cancelled.")
            raise
        return await asyncio.to_thread(self._result, outcome)

    def _until(self) -> int | None:
        return self._last_seq

    def _result(self, outcome: Outcome) -> StageResult:
        if outcome.error is not None:
            raise outcome.error
        assert outcome.validation is not None  # a stage is only done once it is validated
        rows = self._home.database.artifacts(self._session_id, self.stage)
        artifacts = [Artifact.of(row, self._home) for row in rows]
        reports = [found for found in artifacts if found.name == "report.md"]
        return StageResult(
            stage=self.stage,
            run_id=self.id,
            seconds=outcome.seconds,
            report=reports[0].read_bytes().decode("utf-8", "replace") if reports else "",
            artifacts=artifacts,
            validation=outcome.validation,
        )


def _start(home: Home, plan: Plan, reason: str) -> tuple[Lease, list[Event]]:
    agent, stage = plan.agent, plan.brief.stage
    run = RunRow(session_id=plan.session.id, stage=stage.value, agent=agent.name, model=agent.model)
    first: list[Event] = [
        RunStarted(run_id=run.id, agent=agent.name, model=agent.model, reason=reason, stage=stage),
        StateChange(state=f"{stage.value}_running", stage=stage),
    ]
    if (lost := home.unfinished.pop(plan.session.id, None)) is not None:
        home.database.end_run(lost, RunState.FAILED, "interrupted", [])
    return home.database.start_run(run, this_owner(), first)


async def follow(
    home: Home, session_id: str, after: int = 0, until: Callable[[], int | None] = lambda: None
) -> AsyncIterator[Event | UnknownEvent]:
    """Yield a session's events on the caller's loop, while the library's loop reads them.

    Args:
        home: Where the session lives.
        session_id: Whose events.
        after: The `seq` to start behind.
        until: Gives the last `seq` to yield, once it is known.
    """
    batches = home.log(session_id).follow(after, until)
    while batch := await asyncio.wrap_future(home.loop.submit(_next(batches))):
        for event in batch:
            yield event


async def _next(batches: AsyncIterator[Batch]) -> Batch | None:
    return await anext(batches, None)
