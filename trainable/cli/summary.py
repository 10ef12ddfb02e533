"""Writes what stands above and below the rows of a session: who and where, and what came out."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from trainable.cli.console import Note, commands
from trainable.cli.rows import Rows, output_row
from trainable.cli.text import as_options, clean_line, count, metric_name, number, short_id, tilde
from trainable.cli.view import SessionView, StageView
from trainable.home import Home
from trainable.session import Score, Session
from trainable.stages import RunState, Stage

FAILED_LINES = 12
"""Lines of output shown of a step that failed."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a session beside its events."""

    id: str
    name: str
    data: str
    """What the data is, and how large."""
    volume: Path

    @classmethod
    def of(cls, session: Session, home: Home) -> "About":
        """Return what `home` knows about `session`."""
        experiment, target = session.experiment, session.target
        source = experiment.description
        if experiment.dataset_ref != "DataFrame":
            source = ", ".join(Path(ref).name for ref in experiment.dataset_ref.split(", "))
        size = f"{experiment.rows:,} rows, {count(experiment.columns, 'column')}"
        aim = f"target {target}" if target else "EDA will suggest a target"
        return cls(
            id=short_id(session.id, (row.id for row in home.database.sessions())),
            name=session.name,
            data=", ".join(filter(None, (source, size, aim))),
            volume=home.settings.volume_root,
        )


def header(about: About, stage: StageView) -> Rows:
    """Return the two lines that say what runs on what, by whom and where."""
    line = Text(clean_line(about.name), "bold").append(f" {about.id}", "not bold dim")
    line.append(f"   {_agent(stage)}   {_sandbox(stage)}", "not bold")
    return [line, Text(clean_line(about.data), "dim"), Text("")]


def ending_rows(view: SessionView) -> Rows:
    """Return why the last stage did not end well, and what is kept."""
    stage = view.current
    if stage is None or stage.state in (RunState.RUNNING, RunState.DONE):
        return []
    kept = [Note(text=f"Kept: {what}.", indent=0)] if (what := _kept(view)) else []
    if stage.aborted is not None:
        text = f"{stage.aborted.reason} {stage.stage.label} was {_where(stage)}."
        return [Text(""), Note(text=text, state="warning", indent=0), *kept]
    if stage.error is None:
        return []
    output = [output_row(line) for line in _failed_output(stage)]
    head = Note(text=stage.error.error, state="failed", indent=0, style="red")
    remedy = Note(text=f"{as_options(stage.error.remedy)} ({stage.error.code})", indent=0)
    return [Text(""), *output, head, remedy, *kept]


def score_row(score: Score) -> Text:
    """Return the line with the one honest number."""
    line = Text(f"Test {metric_name(score.metric)} {number(score.value)}", "bold")
    low, high = score.ci95
    line.append(f"  95% CI {number(low)} to {number(high)}", "not bold")
    line.append(f"  {count(score.rows, 'row')}, scored once", "not bold dim")
    if score.baseline is not None:
        line.append(f", baseline {number(score.baseline)}", "not bold dim")
    return line


def result_pairs(about: About, view: SessionView) -> list[tuple[str, str]]:
    """Return where the results of the last stage that is done lie, and how to look into them."""
    done = [stage for stage in view.stages if stage.state is RunState.DONE]
    if not done:
        return []
    last = done[-1]
    wanted = {"report": f"/{last.stage.value}/report.md", "model": "/models/model.pkl"}
    table = "raw" if last.stage is Stage.EDA else "train"
    return [
        *(
            (word, tilde(about.volume / path))
            for word, end in wanted.items()
            for path in last.files
            if path.endswith(end)
        ),
        ("data", f"trainable sql {about.id} {shlex.quote(f'FROM {table} LIMIT 5')}"),
    ]


def next_pairs(about: About, view: SessionView) -> list[tuple[str, str]]:
    """Return what can be done next with a session, as commands."""
    stage = view.current
    if stage is not None and stage.state is RunState.RUNNING:
        return [
            ("follow", f"trainable events {about.id} --follow"),
            ("stop", f"trainable cancel {about.id}"),
        ]
    done = {stage.stage for stage in view.stages if stage.state is RunState.DONE}
    return [] if done == set(Stage) else [("go on", f"trainable resume {about.id}")]


def details_pair(about: About) -> tuple[str, str]:
    """Return the command that shows a session."""
    return ("details", f"trainable show {about.id}")


def pairs_below(pairs: Iterable[tuple[str, str]]) -> Rows:
    """Return `pairs` as lines with space above."""
    return [Text(""), *commands(pairs)]


def _agent(stage: StageView) -> str:
    if stage.agent == "playbook":
        return "playbook, free"
    return clean_line(" ".join(filter(None, (stage.agent, stage.model))))


def _sandbox(stage: StageView) -> str:
    box = stage.sandbox
    if box is None:
        return "no sandbox"
    if box.isolation == "none":
        return f"{clean_line(box.backend)} sandbox: not isolated"
    network = [] if "network" in box.missing else ["no network"]
    lacks = [f"does not guard {' and '.join(map(clean_line, box.missing))}"] if box.missing else []
    about = [clean_line(box.isolation), *network, *lacks]
    return f"{clean_line(box.backend)} sandbox: {', '.join(about)}"


def _kept(view: SessionView) -> str:
    kept = [stage.stage.label for stage in view.stages if stage.state is RunState.DONE]
    if steps := sum(step.exit_code == 0 for step in view.stages[-1].steps):
        kept.append(f"{count(steps, 'finished step')} of {view.stages[-1].stage.label}")
    return " and ".join(filter(None, (", ".join(kept[:-1]), *kept[-1:])))


def _where(stage: StageView) -> str:
    return f"in step {stage.steps[-1].number}" if stage.steps else "before its first step"


def _failed_output(stage: StageView) -> list[str]:
    """Return the last lines of the step that failed, when that is why the stage did."""
    if not stage.steps or stage.steps[-1].exit_code in (None, 0):
        return []
    return stage.steps[-1].output(FAILED_LINES)
