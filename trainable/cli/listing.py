"""Lists sessions side by side: what was done, how good it is, and how it ended."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from trainable.cli.console import mark, people, results
from trainable.cli.text import SHORTEST_ID, age, clean_line, metric_name, number, short_id
from trainable.events import ToolStart, ValidationResult
from trainable.home import Home, default_home
from trainable.session import Score, Session
from trainable.stages import RunState, Stage
from trainable.storage.tables import RunRow, SessionRow

ROOMY = 90
"""Columns of a terminal from which on all columns of the table are shown."""
LEGEND = "✓ done  ! done with warnings  ✗ failed  - stopped  ● running  ○ not started"


@dataclass(frozen=True, kw_only=True)
class Overview:
    """One session in one line."""

    row: SessionRow
    stages: dict[Stage, str]
    """Sign of each stage: see `MARKS`."""
    last: RunRow | None
    """The run that was started last."""
    step: int | None
    """The step that was started last."""
    score: Score | None
    cost: float

    @classmethod
    def of(cls, row: SessionRow, home: Home) -> "Overview":
        """Return what `home` knows about a session."""
        runs = home.database.runs(row.id)
        checks = home.database.events_of(row.id, ValidationResult)
        warned = {check.stage: bool(check.warnings) for check in checks}
        latest = {Stage(run.stage): run for run in runs}
        session = Session.load(row.id, home=home)
        steps = home.database.events_of(row.id, ToolStart)
        return cls(
            row=row,
            stages={s: _sign(latest.get(s), warned=warned.get(s, False)) for s in Stage},
            last=runs[-1] if runs else None,
            step=steps[-1].step if steps else None,
            score=session.score,
            cost=session.usage.cost_usd,
        )

    def words(self) -> Text:
        """Return the score, or else where the session stands."""
        if self.last is None:
            return Text("not started", "dim")
        stage = Stage(self.last.stage).label
        match RunState(self.last.state):
            case RunState.RUNNING:
                return Text(f"{stage}, step {self.step}" if self.step else stage, "blue")
            case RunState.FAILED:
                return Text(f"{stage}: {clean_line(self.last.reason or 'failed')}", "red")
            case RunState.CANCELLED:
                return Text(f"{stage} stopped", "yellow")
            case RunState.DONE:
                return _score(self.score) if self.score else Text(f"{stage} done", "dim")

    def as_dict(self) -> dict[str, Any]:
        """Return the line as plain values."""
        score = self.score
        return {
            "id": self.row.id,
            "name": self.row.name,
            "state": self.row.state,
            "stages": {stage.value: sign for stage, sign in self.stages.items()},
            "agent": self.last.agent if self.last else None,
            "model": self.last.model if self.last else None,
            "target": self.row.target,
            "score": {
                "metric": score.metric,
                "value": score.value,
                "ci95": score.ci95,
                "rows": score.rows,
                "baseline": score.baseline,
                "model": score.model,
            }
            if score
            else None,
            "cost_usd": self.cost,
            "created_at": self.row.created_at.isoformat(),
        }


def list_sessions(limit: int, *, as_json: bool) -> None:
    """Print the newest sessions: as a table, or one JSON object a line."""
    home = default_home()
    home.database.reap()
    rows = home.database.sessions()
    found = [Overview.of(row, home) for row in rows[:limit]]
    if as_json:
        for overview in found:
            sys.stdout.write(to_json(overview.as_dict(), inf_nan_mode="null").decode() + "\n")
        return
    if not found:
        people().print("No sessions yet. Start with: trainable demo  (no key is needed)")
        return
    console = results()
    console.print(_table(found, [row.id for row in rows], console.width))
    more = f"{len(rows) - limit} more: --limit {len(rows)}   " if len(rows) > limit else ""
    people().print(Text(f"\n{LEGEND}\n{more}More: trainable show ID", "dim"))


def _table(found: list[Overview], ids: list[str], width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, header_style="dim", border_style="dim")
    table.add_column("ID", no_wrap=True, min_width=SHORTEST_ID)
    table.add_column("Experiment", no_wrap=True, overflow="ellipsis")
    for stage in Stage:
        table.add_column(stage.label, no_wrap=True, min_width=len(stage.label))
    table.add_column("Test score", no_wrap=True, overflow="ellipsis")
    roomy = width >= ROOMY
    if roomy:
        table.add_column("Agent", no_wrap=True, overflow="ellipsis")
        table.add_column("Cost", justify="right", no_wrap=True)
    table.add_column("Age", justify="right", no_wrap=True, min_width=3)
    now = datetime.now(UTC)
    for one in found:
        agent = " ".join(filter(None, (one.last.agent, one.last.model))) if one.last else ""
        cost = f"${one.cost:.2f}" if one.cost else "free" if one.last else ""
        table.add_row(
            short_id(one.row.id, ids),
            Text(clean_line(one.row.name)),
            *(mark(one.stages[stage]) for stage in Stage),
            one.words(),
            *((Text(clean_line(agent)), cost) if roomy else ()),
            age(one.row.created_at, now),
        )
    return table


def _sign(run: RunRow | None, *, warned: bool) -> str:
    if run is None or run.stale:
        return "waiting"
    match RunState(run.state):
        case RunState.RUNNING:
            return "running"
        case RunState.FAILED:
            return "failed"
        case RunState.CANCELLED:
            return "stopped"
        case RunState.DONE:
            return "warning" if warned else "done"


def _score(score: Score) -> Text:
    low, high = score.ci95
    text = Text(f"{metric_name(score.metric)} {number(score.value)} ")
    return text.append(f"{number(low)} to {number(high)}", "dim")
