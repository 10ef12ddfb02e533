"""Writes what a view holds as rows: steps, notices, and what the checks found."""

from collections.abc import Collection

from rich.console import RenderableType
from rich.text import Text

from trainable.cli.console import Note, Row
from trainable.cli.text import clean, clock, count, metric_name, number, sparkline
from trainable.cli.view import Series, SessionView, StageView, Step
from trainable.events import Event, Finding, Notice, ToolEnd, UnknownEvent, ValidationResult

FINDINGS = 5
"""Findings of a kind shown before the rest is only counted."""
Rows = list[RenderableType]


def stage_title(stage: StageView) -> Rows:
    """Return the line above the steps of a stage."""
    return [Text(stage.stage.label, "bold")]


def rows_of(view: SessionView, event: Event | UnknownEvent) -> Rows:
    """Return the rows that `event`, after which the view is `view`, adds below the earlier ones."""
    stage = view.current
    if stage is None:
        return []
    match event:
        case ToolEnd():
            return [step_row(stage.steps[-1])] if stage.steps else []
        case Notice():
            return [notice_row(event)]
        case ValidationResult():
            return validation_rows(stage)
        case _:
            return []


def stage_rows(stage: StageView, said: Collection[str] = ()) -> Rows:
    """Return all rows of a stage, as they stood when it ran, but for notices already `said`."""
    notices = [notice for notice in stage.notices if notice.text not in said]
    rows = stage_title(stage) + [notice_row(notice) for notice in notices]
    return rows + [step_row(step) for step in stage.steps] + validation_rows(stage)


def step_row(step: Step, *, elapsed: float | None = None) -> Row:
    """Return the row of a step; `elapsed` while it runs."""
    running = step.exit_code is None
    state = "running" if running else "done" if step.exit_code == 0 else "failed"
    seconds = step.seconds if elapsed is None else elapsed
    return Row(
        title=f"{step.number:02d} {step.title}",
        state=state if elapsed is not None or not running else "stopped",
        detail=_detail(step),
        time="" if running and elapsed is None else clock(seconds, tenths=not running),
    )


def output_row(line: str) -> Text:
    """Return a line that code printed; of a progress bar, its last state."""
    text = clean(line.rstrip("\r").rsplit("\r", 1)[-1])
    return Text(f"    │ {text}", "dim", no_wrap=True, overflow="ellipsis")


def notice_row(notice: Notice) -> Note:
    """Return the row of something that is no failure."""
    return Note(text=notice.text, state="warning", remedy=notice.remedy, hang=5)


def validation_rows(stage: StageView) -> Rows:
    """Return what the checks after a stage found."""
    found = stage.validation
    if found is None:
        return []
    parts = [f"{len(found.passed)} passed"]
    parts += [count(len(found.warnings), "warning")] if found.warnings else []
    parts += [count(len(found.errors), "error")] if found.errors else []
    seconds = (found.time - stage.delivered).total_seconds() if stage.delivered else None
    row = Row(
        title="Validation",
        state="failed" if found.errors else "warning" if found.warnings else "done",
        detail=", ".join(parts),
        time="" if seconds is None else clock(seconds, tenths=True),
    )
    return [row, *_findings(found.errors, "failed"), *_findings(found.warnings, "warning")]


def _detail(step: Step) -> str:
    parts = [count(step.figures, "figure")] if step.figures else []
    others = len(step.files) - step.figures
    parts += [count(others, "file")] if others else []
    parts += ["timed out"] if step.timed_out else []
    if step.exit_code:
        parts.insert(0, f"exit code {step.exit_code}")
    if step.series:
        parts.insert(0, _latest(step.series))
    return ", ".join(parts)


def _latest(series: tuple[Series, ...]) -> str:
    """Return the metric that grew last: its course, or its last values side by side."""
    last = series[-1]
    name = metric_name(last.name)
    alike = [one.values[-1] for one in series if one.name == last.name and one.values]
    if not alike:
        return f"{name} not a number"
    if bars := sparkline(last.values):
        return f"{name} {number(last.values[-1])} {bars}"
    return f"{name} {' / '.join(number(value) for value in alike[-3:])}"


def _findings(found: list[Finding], state: str) -> Rows:
    rows: Rows = [Note(text=one.message, state=state, hang=5) for one in found[:FINDINGS]]
    if more := len(found) - FINDINGS:
        rows += [Note(text=f"{more} more", hang=5, style="dim")] if more > 0 else []
    return rows
