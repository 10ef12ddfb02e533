"""Shows one session: its stages, findings and files, its events one by one, and its end."""

import asyncio
import sys
from collections import Counter
from pathlib import PurePosixPath
from typing import cast

from rich.text import Text

from trainable.artifacts import Artifact
from trainable.cli.console import Note, Row, Stream, people, results
from trainable.cli.rows import Rows, stage_rows
from trainable.cli.summary import (
    About,
    ending_rows,
    header,
    next_pairs,
    pairs_below,
    result_pairs,
    score_row,
)
from trainable.cli.text import clean_line, count, size_of
from trainable.cli.view import SessionView, reduce
from trainable.events import BaseEvent, Event, StateChange, UnknownEvent
from trainable.home import default_home
from trainable.session import Session
from trainable.stages import Stage

STOP_SECONDS = 10.0
"""How long `cancel` waits for the end; a run takes at most 5 to get there."""
SAYING = ("text", "error", "state", "script", "path", "title", "content", "output", "reason")
"""Fields that say by themselves what an event is about."""
KINDS = {
    "chart": "figure",
    "dataset": "table",
    "metadata": "JSON file",
    "file": "other file",
}


def show_session(session_id: str) -> None:
    """Print what is known of a session."""
    session = Session.load(session_id)
    about = About.of(session, default_home())
    view = SessionView()
    for event in session.events():
        view = reduce(view, event)
    results().show(_session_rows(about, view, session))


def print_events(session_id: str, *, follow: bool, after: int, as_json: bool) -> None:
    """Print stored events and, with `follow`, new ones until Ctrl-C."""
    session = Session.load(session_id)
    console = results()
    if not follow:
        for event in session.events(after):
            _print_event(console, event, as_json=as_json)
        return

    async def go_on() -> None:
        async for event in session.follow(after):
            _print_event(console, event, as_json=as_json)

    asyncio.run(go_on())


def cancel_session(session_id: str) -> int:
    """Ask a session's run to stop, wait for its end, and return the exit code."""
    session, console = Session.load(session_id), people()
    about = About.of(session, default_home())
    seen = default_home().database.last_seq(session.id)
    if not session.cancel():
        console.print(Note(text=f"Nothing runs in {about.name} {about.id}.", indent=0))
        return 0
    try:
        asyncio.run(_end_of_run(session, seen))
    except TimeoutError:
        text = f"{about.name} {about.id} was asked to stop, and has not yet."
        console.print(Note(text=text, state="warning", indent=0))
        return 1
    text = f"Stopped {about.name} {about.id}. Finished steps and files are kept."
    console.print(Note(text=text, state="done", indent=0))
    return 0


async def _end_of_run(session: Session, after: int) -> None:
    """Wait until a run has ended.

    Raises:
        TimeoutError: It has not, in time.
    """
    async with asyncio.timeout(STOP_SECONDS):
        async for event in session.follow(after):
            if isinstance(event, StateChange) and not event.state.endswith("_running"):
                return


def _session_rows(about: About, view: SessionView, session: Session) -> Rows:
    first = view.current
    if first is None:
        head = Text(clean_line(about.name), "bold").append(f" {about.id}", "not bold dim")
        start = f"Nothing has run yet. Start with: trainable resume {about.id}"
        return [head, Text(clean_line(about.data), "dim"), Text(""), Text(start)]
    rows = header(about, first)
    artifacts = session.artifacts()
    said: set[str] = set()
    for stage in view.stages:
        rows += stage_rows(stage, said)
        said |= {notice.text for notice in stage.notices}
        rows += _files_row([one for one in artifacts if one.stage is stage.stage])
    missing = [stage for stage in Stage if view.of(stage) is None]
    rows += [
        Row(title=f"{stage.label}, not started", state="waiting", indent=0) for stage in missing
    ]
    rows += ending_rows(view)
    if (score := session.score) and first.stage is Stage.TRAIN:
        rows += [Text(""), score_row(score)]
    return [*rows, *pairs_below([*result_pairs(about, view), *next_pairs(about, view)])]


def _files_row(artifacts: list[Artifact]) -> Rows:
    if not artifacts:
        return []
    kinds = Counter(KINDS.get(one.type, one.type) for one in artifacts)
    parts = ", ".join(count(number, kind) for kind, number in kinds.most_common())
    size = size_of(sum(one.size for one in artifacts))
    return [Row(title=f"Files: {parts}, {size}")]


def _print_event(console: Stream, event: Event | UnknownEvent, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(event.model_dump_json() + "\n")
        sys.stdout.flush()
        return
    moment = event.time.astimezone().strftime("%H:%M:%S")
    stage = event.stage.label if event.stage else ""
    line = Text(f"{event.seq or '':>6} {moment}  ", "dim").append(f"{stage:<6}")
    line.append(f"{clean_line(event.type):<18}", "not dim").append(_summary(event), "not dim")
    line.no_wrap, line.overflow = True, "ellipsis"
    console.print(line, crop=console.is_terminal, soft_wrap=not console.is_terminal)


def _summary(event: Event | UnknownEvent) -> str:
    """Return what an event says, in one line."""
    fields = event.model_dump(mode="json", exclude=set(BaseEvent.model_fields))
    for name in SAYING:
        if isinstance(text := fields.get(name), str) and text:
            if name in ("script", "path"):
                return clean_line(str(PurePosixPath(*PurePosixPath(text).parts[2:])))
            return _clip(text)
    pairs = [f"{name}={_clip(_brief(value), 60)}" for name, value in fields.items() if value]
    return ", ".join(pairs)


def _brief(value: object) -> str:
    return (
        count(len(cast("list[object]", value)), "item") if isinstance(value, list) else str(value)
    )


def _clip(text: str, length: int = 300) -> str:
    line = clean_line(text[: 4 * length])
    return line if len(line) <= length else f"{line[: length - 1]}…"
