"""What a reader of a session's events knows so far: `reduce(view, event)`, and nothing else."""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from trainable.events import (
    AgentAborted,
    AgentError,
    AgentMessage,
    CodeOutput,
    Event,
    FileCreated,
    FilesReady,
    MetricsBatch,
    Notice,
    RunStarted,
    SandboxStarted,
    StateChange,
    ToolEnd,
    ToolStart,
    UnknownEvent,
    ValidationResult,
)
from trainable.stages import RunState, Stage

TAIL_LINES = 12
"""Lines of output kept of each step."""
LINE_CHARACTERS = 1000
POINTS = 200
"""Values kept of each metric of a step."""
FIGURES = (".png", ".jpg", ".svg", ".plotly.json")
DOCSTRING = re.compile(r"\s*(?:#.*\n\s*)*[rR]?(?:\"\"\"|''')\s*(.+)")
COMMENT = re.compile(r"^\s*(?:#+|def|class)\s+(\w.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Series:
    """The values that a step logged under one name, in one run of its own."""

    name: str
    run: str | None
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of `execute_code`."""

    number: int
    title: str
    started: datetime
    files: tuple[str, ...] = ()
    series: tuple[Series, ...] = ()
    """The one that grew last stands last."""
    tail: tuple[str, ...] = ()
    """The last complete lines of output."""
    partial: str = ""
    """Output since the last newline."""
    exit_code: int | None = None
    """None while it runs."""
    seconds: float = 0.0
    timed_out: bool = False

    @property
    def figures(self) -> int:
        """How many of its files are figures."""
        return sum(path.endswith(FIGURES) for path in self.files)

    def output(self, lines: int) -> list[str]:
        """Return the last lines of output, the one that is being written included."""
        found = [line for line in (*self.tail, self.partial) if line.strip()]
        return found[-lines:]


@dataclass(frozen=True, kw_only=True)
class StageView:
    """The latest run of one stage."""

    stage: Stage
    agent: str
    model: str | None
    started: datetime
    state: RunState = RunState.RUNNING
    sandbox: SandboxStarted | None = None
    steps: tuple[Step, ...] = ()
    saying: str = ""
    """What the agent said last."""
    notices: tuple[Notice, ...] = ()
    files: tuple[str, ...] = ()
    """All files of the stage, once the agent has ended."""
    delivered: datetime | None = None
    """When the agent had ended; the checks begin then."""
    validation: ValidationResult | None = None
    error: AgentError | None = None
    aborted: AgentAborted | None = None
    ended: datetime | None = None

    @property
    def running(self) -> Step | None:
        """The step that runs now."""
        return self.steps[-1] if self.steps and self.steps[-1].exit_code is None else None


@dataclass(frozen=True, kw_only=True)
class SessionView:
    """The stages that were started, in order, each by its latest run."""

    stages: tuple[StageView, ...] = ()

    @property
    def current(self) -> StageView | None:
        """The stage that was started last."""
        return self.stages[-1] if self.stages else None

    def of(self, stage: Stage) -> StageView | None:
        """Return the latest run of `stage`, None when it was not started."""
        return next((view for view in self.stages if view.stage is stage), None)


def reduce(view: SessionView, event: Event | UnknownEvent) -> SessionView:
    """Return the view after `event`; events that change nothing here are skipped."""
    if isinstance(event, RunStarted):
        return _begin(view, event)
    stage = view.current
    if stage is None or event.stage not in (None, stage.stage):
        return view
    return replace(view, stages=(*view.stages[:-1], _after(stage, event)))


def title_of(code: str, script: str) -> str:
    """Return what a step does: the first sentence or comment of its code, or the script's name."""
    found = DOCSTRING.match(code) or COMMENT.search(code)
    if found is None:
        name = script.rpartition("/")[2].removesuffix(".py")
        return re.sub(r"^step_\d+_", "", name).replace("_", " ")
    line = re.split(r"\.(?:\s|$)|\"\"\"|'''", found[1])[0]
    return line.strip().rstrip(":")


def _begin(view: SessionView, event: RunStarted) -> SessionView:
    """Start a stage again or anew; what was built on its last run is not shown any more."""
    if event.stage is None:
        return view
    kept = [old for old in view.stages if event.stage in old.stage.later]
    begun = StageView(stage=event.stage, agent=event.agent, model=event.model, started=event.time)
    return replace(view, stages=(*kept, begun))


def _after(stage: StageView, event: Event | UnknownEvent) -> StageView:
    match event:
        case ToolStart():
            title = title_of(event.input.code, event.script)
            step = Step(number=event.step, title=title, started=event.time)
            return replace(stage, steps=(*stage.steps, step))
        case CodeOutput() | MetricsBatch() | FileCreated() | ToolEnd():
            if not stage.steps:
                return stage
            *before, last = stage.steps
            return replace(stage, steps=(*before, _step_after(last, event)))
        case AgentMessage(text=text):
            return replace(stage, saying=text)
        case Notice():
            return replace(stage, notices=(*stage.notices, event))
        case SandboxStarted():
            return replace(stage, sandbox=event)
        case _:
            return _nearer_the_end(stage, event)


def _nearer_the_end(stage: StageView, event: Event | UnknownEvent) -> StageView:
    match event:
        case FilesReady(files=files):
            return replace(stage, files=tuple(files), delivered=event.time)
        case ValidationResult():
            return replace(stage, validation=event)
        case AgentError():
            return replace(stage, error=event)
        case AgentAborted():
            return replace(stage, aborted=event)
        case StateChange(state=state):
            end = RunState.DONE if state.endswith("_done") else state
            if end not in (RunState.DONE, RunState.FAILED, RunState.CANCELLED):
                return stage
            return replace(stage, state=RunState(end), ended=event.time)
        case _:
            return stage


def _step_after(step: Step, event: CodeOutput | MetricsBatch | FileCreated | ToolEnd) -> Step:
    match event:
        case CodeOutput(text=text):
            *lines, partial = (step.partial + text).split("\n")
            shown = [line for line in lines if line.strip() and not line.startswith("next: {")]
            tail = (*step.tail, *shown)[-TAIL_LINES:]
            return replace(step, tail=tail, partial=partial[-LINE_CHARACTERS:])
        case MetricsBatch():
            return replace(step, series=_series_after(step.series, event))
        case FileCreated(path=path):
            return step if path in step.files else replace(step, files=(*step.files, path))
        case ToolEnd():
            return replace(
                step,
                exit_code=event.exit_code,
                seconds=event.seconds,
                timed_out=event.timed_out,
            )


def _series_after(series: tuple[Series, ...], batch: MetricsBatch) -> tuple[Series, ...]:
    known = {(one.name, one.run): list(one.values) for one in series}
    for _, metrics, run in batch.metrics():
        for name, value in reversed(metrics.items()):  # what a call names first is its main one
            values = known.pop((name, run), [])
            values += [] if value is None else [value]
            known[name, run] = values
    return tuple(
        Series(name=name, run=run, values=tuple(values[-POINTS:]))
        for (name, run), values in known.items()
    )
