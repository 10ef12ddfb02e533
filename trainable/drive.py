"""Carries out one run: the agent in its box, then the report, the checks and the end state."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from trainable.agent.base import Agent, Brief
from trainable.errors import LeaseLostError, RunCancelled, StageFailed, StorageError, TrainableError
from trainable.events import (
    AgentAborted,
    AgentError,
    Event,
    FilesReady,
    MetricsBatch,
    Notice,
    ReportReady,
    SandboxStarted,
    StateChange,
    Usage,
    ValidationResult,
)
from trainable.home import Home
from trainable.outputs import artifact_rows, dataset_meta, read_report
from trainable.proof.validator import validate
from trainable.sandbox.base import Box, BoxSpec, Sandbox
from trainable.sandbox.limits import Limits
from trainable.stages import RunState, Stage
from trainable.storage.lease import HEARTBEAT, Lease
from trainable.storage.tables import SessionRow
from trainable.workbench import SandboxBench

WATCH_SECONDS = 0.2
"""How often the run looks whether another process wants it to stop."""
LOGGER = logging.getLogger(__name__)
LOGGER.addHandler(logging.NullHandler())  # what to show is the application's choice


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done in one run."""

    session: SessionRow
    brief: Brief
    agent: Agent
    sandbox: Sandbox
    timeout: float
    """Seconds that one step may take."""
    limits: Limits = field(default_factory=Limits)
    """What else one step may use."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended; `error` is None only when the stage is done."""

    state: RunState
    seconds: float
    validation: ValidationResult | None = None
    error: TrainableError | None = None


class Drive:
    """One run on the home's loop; `stop` may be called on that loop at any time."""

    def __init__(self, home: Home, plan: Plan, lease: Lease) -> None:
        self._home = home
        self._plan = plan
        self._lease = lease
        self._log = home.log(plan.session.id)
        self._stage = plan.brief.stage
        self._folder = f"sessions/{plan.session.id}/{self._stage.value}"
        self._started = time.monotonic()
        self._work: asyncio.Task[None] | None = None
        self._stop_reason: str | None = None
        self._validation: ValidationResult | None = None
        self._metrics = 0
        self._turns = 0

    def stop(self, reason: str) -> None:
        """End the run as cancelled, within 5 seconds; the first reason is the one kept."""
        if self._stop_reason is None:
            self._stop_reason = reason
            if self._work is not None:
                self._work.cancel()

    async def drive(self) -> Outcome:
        """Do the whole run; every end, a failure too, is stored before this returns.

        Raises:
            StorageError: The end could not be stored, or another process took the session.
        """
        self._work = asyncio.create_task(self._do_stage())
        if self._stop_reason is not None:
            self._work.cancel()
        watch = asyncio.create_task(self._watch())
        try:
            await asyncio.wait([self._work])
        finally:
            watch.cancel()
            await asyncio.wait([watch])
        return await self._end(self._work)

    async def _do_stage(self) -> None:
        plan = self._plan
        dataset = self._home.volume.path(f"datasets/{plan.session.experiment_id}")
        earlier = [plan.brief.workdir.parent / stage.value for stage in Stage]
        spec = BoxSpec(
            workdir=plan.brief.workdir,
            readonly=(dataset, *earlier[: list(Stage).index(self._stage)]),
            env={"TRAINABLE_DATASET": str(dataset)},
            trusted=plan.agent.trusted,
            limits=plan.limits,
        )
        async with plan.sandbox.open(spec) as box:
            await self._announce(box)
            failure = await self._let_agent_work(box)
            await self._deliver()
            await self._check(box)
        if failure is not None:
            raise failure
        self._require_valid()

    async def _announce(self, box: Box) -> None:
        info = box.info
        await self._emit(
            SandboxStarted(
                backend=info.backend,
                isolation=info.isolation,
                missing=list(info.missing),
                limits=dict(info.limits),
            )
        )
        if info.isolation == "none":
            await self._emit(
                Notice(
                    code="not_isolated",
                    text="Code of this stage runs with your rights, without isolation.",
                    remedy="The built-in playbook is part of Trainable and reads only your data.",
                )
            )

    async def _let_agent_work(self, box: Box) -> StageFailed | None:
        bench = SandboxBench(
            box,
            self._home.volume,
            self._folder,
            self._emit,
            timeout=self._plan.timeout,
            max_turns=self._plan.brief.max_turns,
        )
        try:
            await self._plan.agent.work(self._plan.brief, bench)
        except StageFailed as failure:
            return failure
        finally:
            self._turns = bench.turns
        return None

    async def _deliver(self) -> None:
        """Announce the report and the files, whatever state they are in."""
        volume, folder = self._home.volume, self._folder
        if (report := await asyncio.to_thread(read_report, volume, folder)) is not None:
            await self._emit(ReportReady(content=report))
        rows = await asyncio.to_thread(artifact_rows, volume, self._plan.session.id, self._stage)
        await asyncio.to_thread(
            self._home.database.set_artifacts, self._plan.session.id, self._stage, rows
        )
        await self._emit(FilesReady(files=[row.path for row in rows]))

    async def _check(self, box: Box) -> None:
        parameters: dict[str, Any] = {"logged_metrics": self._metrics}
        self._validation = await validate(self._stage, box, parameters)
        await self._emit(self._validation)
        if self._stage is Stage.PREP and not self._validation.errors:
            row = await asyncio.to_thread(dataset_meta, self._home.volume, self._plan.session)
            await asyncio.to_thread(self._home.database.set_dataset_meta, row)

    def _require_valid(self) -> None:
        errors = self._validation.errors if self._validation else []
        if errors:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise StageFailed(
                f"{self._stage.label} did not pass its checks: {errors[0].message}{more}",
                remedy="The files are kept. Mend what the findings name and run the stage again.",
                code="validation",
            )

    async def _watch(self) -> None:
        """Keep the lease, and stop when another process asks for it."""
        database, extended = self._home.database, time.monotonic()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                if time.monotonic() - extended >= HEARTBEAT:
                    reason = await asyncio.to_thread(database.heartbeat, self._lease)
                    extended = time.monotonic()
                else:
                    reason = await asyncio.to_thread(database.cancel_reason, self._lease)
            except LeaseLostError:
                self.stop("Another process took the session over.")
                return
            except StorageError:
                LOGGER.warning("the lease could not be extended", exc_info=True)
            else:
                if reason is not None:
                    self.stop(reason)

    async def _end(self, work: asyncio.Task[None]) -> Outcome:
        error = self._error_of(work)
        state = RunState.DONE
        events: list[Event] = [Usage(turns=self._turns, seconds=self._seconds())]
        if isinstance(error, RunCancelled):
            state = RunState.CANCELLED
            events.append(AgentAborted(reason=error.text))
        elif error is not None:
            state = RunState.FAILED
            events.append(AgentError(error=error.text, code=error.code, remedy=error.remedy))
        done = f"{self._stage.value}_done" if state is RunState.DONE else state.value
        events.append(StateChange(state=done))
        reason = error.code if error else None
        await asyncio.shield(
            asyncio.to_thread(
                self._home.database.end_run, self._lease, state, reason, self._stamped(events)
            )
        )
        self._log.wake()
        return Outcome(
            state=state, seconds=self._seconds(), validation=self._validation, error=error
        )

    def _error_of(self, work: asyncio.Task[None]) -> TrainableError | None:
        """Return why the work ended: a crash of our own becomes an error with a code."""
        if work.cancelled():
            return RunCancelled(
                self._stop_reason or "The run was cancelled.",
                remedy="Finished steps and files are kept; run the stage again to go on.",
                code="cancelled",
            )
        error = work.exception()
        if error is None or isinstance(error, TrainableError):
            return error
        LOGGER.error("run of %s failed", self._stage.value, exc_info=error)
        return StageFailed(
            f"{self._stage.label} stopped by a fault in Trainable or in the agent: {error!r}",
            remedy="What exists is kept. Run the stage again; please report it if it repeats.",
            code="internal",
        )

    async def _emit(self, *events: Event) -> None:
        self._metrics += sum(len(e.items) for e in events if isinstance(e, MetricsBatch))
        await self._log.append(*self._stamped(events), lease=self._lease)

    def _stamped(self, events: "tuple[Event, ...] | list[Event]") -> list[Event]:
        update = {"stage": self._stage, "session_id": self._plan.session.id}
        return [event.model_copy(update=update) for event in events]

    def _seconds(self) -> float:
        return round(time.monotonic() - self._started, 3)
