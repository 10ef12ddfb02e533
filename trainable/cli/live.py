"""Shows a run while it goes on: a line for what is finished, and below it what is going on."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from trainable.cli.console import Note, Row, people
from trainable.cli.rows import Rows, output_row, rows_of, stage_title, step_row
from trainable.cli.summary import (
    About,
    details_pair,
    ending_rows,
    header,
    next_pairs,
    pairs_below,
    result_pairs,
    score_row,
)
from trainable.cli.text import clean_line, clock
from trainable.cli.view import SessionView, StageView, reduce
from trainable.events import Event, Notice, RunStarted, SandboxStarted, StateChange, UnknownEvent
from trainable.session import Score
from trainable.stages import RunState, Stage

TICK = 0.25
OUTPUT_LINES = 3
HINT = "Ctrl-C stops, finished steps are kept"
STOPPING = "Stopping, finished steps are kept"


def utc_now() -> datetime:
    """Return the current moment in UTC."""
    return datetime.now(UTC)


class Screen:
    """Follows a session's events on stderr; the moving part is there on a terminal only."""

    def __init__(
        self,
        about: About,
        view: SessionView,
        *,
        quiet: bool,
        moving: bool,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Make a screen.

        Args:
            about: What is known beside the events.
            view: What happened before.
            quiet: Show nothing but why a run did not end well.
            moving: Whether the moving part may be used, if this is a terminal.
            clock: Tells the time.
        """
        self.view = view
        self._about = about
        self._quiet = quiet
        self._clock = clock
        self._console = people()
        self._started = clock()
        self._due: list[Callable[[StageView], Rows]] = [lambda stage: header(about, stage)]
        """What has to stand above the next rows."""
        self._said: set[tuple[str, str]] = set()
        self._hint = HINT
        self._live: Live | None = None
        if moving and not quiet and self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the moving part away and give the cursor back."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def take(self, event: Event | UnknownEvent) -> None:
        """Show what `event` changes."""
        self.view = reduce(self.view, event)
        match event:
            case RunStarted():
                self._due.append(stage_title)
            case SandboxStarted():
                self._print([])
            case Notice(code=code, text=text) if (code, text) in self._said:
                pass  # what holds for every stage is said once
            case Notice(code=code, text=text):
                self._said.add((code, text))
                self._print(rows_of(self.view, event))
            case StateChange(state="failed" | "cancelled"):
                self.close()
                self._console.show([*ending_rows(self.view), *self._go_on()])
            case _:
                if rows := rows_of(self.view, event):
                    self._print(rows)
        self.tick()

    def stopping(self) -> None:
        """Say that the wish to stop has arrived."""
        self._hint = STOPPING
        self.tick()

    @property
    def ended_badly(self) -> bool:
        """Whether the last stage failed or was stopped, and this was shown."""
        stage = self.view.current
        return stage is not None and stage.state in (RunState.FAILED, RunState.CANCELLED)

    def stopped_before(self, stage: Stage) -> None:
        """Say that `stage` was not started."""
        self.close()
        text = f"Stopped before {stage.label}. What is done is kept."
        self._console.show((Note(text=text, state="warning", indent=0), *self._go_on()))

    def finish(self, score: Score | None) -> None:
        """Show what came out and what can be done next."""
        self.close()
        pairs = [
            *result_pairs(self._about, self.view),
            details_pair(self._about),
            *next_pairs(self._about, self.view),
        ]
        self._print([*([Text(""), score_row(score)] if score else []), *pairs_below(pairs)])

    async def run(self) -> None:
        """Keep the moving part moving, until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self.tick()

    def tick(self) -> None:
        """Draw the moving part again."""
        if self._live is not None:
            rows = moving_rows(self.view, self._started, self._clock(), self._hint)
            self._live.update(Group(*rows), refresh=True)

    def _go_on(self) -> Rows:
        return pairs_below([*next_pairs(self._about, self.view), details_pair(self._about)])

    def _print(self, rows: Rows) -> None:
        stage = self.view.current
        if self._quiet or stage is None:
            return
        due, self._due = self._due, []
        self._console.show((*(row for make in due for row in make(stage)), *rows))


def moving_rows(view: SessionView, started: datetime, now: datetime, hint: str) -> Rows:
    """Return what is going on: the step, its last output, and the time since `started`."""
    stage = view.current
    if stage is None or stage.state is not RunState.RUNNING:
        return []
    said = clean_line(stage.saying)
    rows: list[RenderableType] = []
    if said:
        rows.append(Text(f"    {said}", "dim", no_wrap=True, overflow="ellipsis"))
    if (step := stage.running) is not None:
        rows.append(step_row(step, elapsed=(now - step.started).total_seconds()))
        rows += [output_row(line) for line in step.output(OUTPUT_LINES)]
    else:
        checking = (now - stage.delivered).total_seconds() if stage.delivered else None
        time = "" if checking is None else clock(checking)
        rows.append(Row(title=_doing(stage), state="running", time=time))
    elapsed = f"{clock((now - started).total_seconds())} elapsed"
    return [*rows, Text(""), Text(f"  {elapsed}   ").append(hint, "dim")]


def _doing(stage: StageView) -> str:
    if stage.sandbox is None:
        return "Starting the sandbox"
    if stage.delivered is not None:
        return "Validation" if stage.validation is None else "Storing the results"
    return "Writing the next step"
