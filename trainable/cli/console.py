"""The two streams of the command line, and the rows that everything on them is made of."""

import io
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from trainable.cli.text import as_options, clean_line, fitting, shorten, width_of
from trainable.errors import TrainableError

WIDTH = 100
TITLE_SHARE = 0.57
TIME_WIDTH = 9
MARKS = {
    "done": ("✓", "green"),
    "warning": ("!", "yellow"),
    "failed": ("✗", "red"),
    "running": ("●", "blue"),
    "waiting": ("○", "dim"),
    "absent": ("-", "dim"),
    "stopped": ("-", "yellow"),
    "none": (" ", ""),
}


class Stream(Console):
    """A console that lets a reader's closed pipe be noticed instead of ending the process."""

    def on_broken_pipe(self) -> NoReturn:
        """Pass the failure on; whoever runs something has to stop it first."""
        raise BrokenPipeError

    def show(self, rows: Iterable[RenderableType]) -> None:
        """Print one row after the other; what is to be pasted is never cut or broken."""
        for row in rows:
            whole = isinstance(row, Text) and row.overflow == "ignore"
            self.print(row, soft_wrap=whole)


def people() -> Stream:
    """Return the console for what people read while something happens: stderr."""
    return _stream(stderr=True)


def results() -> Stream:
    """Return the console for what a command was asked to print: stdout."""
    return _stream(stderr=False)


def _stream(*, stderr: bool) -> Stream:
    file = sys.stderr if stderr else sys.stdout
    if isinstance(file, io.TextIOWrapper) and file.encoding.lower() != "utf-8":
        file.reconfigure(errors="replace")  # a terminal without these signs gets question marks
    width = None if file.isatty() else WIDTH
    return Stream(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def mute() -> None:
    """Send whatever is still written nowhere, once the reader of a pipe has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def mark(state: str) -> Text:
    """Return the sign of a state; words beside it say the same."""
    return Text(*MARKS[state])


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of four columns: sign, title, detail, and time at the right."""

    title: str
    state: str = "none"
    detail: str = ""
    time: str = ""
    indent: int = 2
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title, detail = clean_line(self.title), clean_line(self.detail)
        space = min(options.max_width, WIDTH) - self.indent - 2
        right = TIME_WIDTH if self.time else 0
        left = round((min(options.max_width, WIDTH) - TIME_WIDTH) * TITLE_SHARE) - self.indent
        title = shorten(title, left - 2 if detail else space - right)
        gap = max(2, left - width_of(title))
        detail = fitting(detail, max(0, space - left - right)) if detail else ""
        line = Text(" " * self.indent, no_wrap=True, overflow="crop")
        line.append_text(mark(self.state)).append(" ").append(title, self.style)
        if detail:
            line.append(" " * gap + detail, "dim")
        if self.time:
            line.pad_right(
                max(0, min(options.max_width, WIDTH) - width_of(line.plain) - width_of(self.time))
            )
            line.append(self.time, "dim")
        yield line


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence with a sign, wrapped below itself, and what to do about it in dim."""

    text: str
    state: str = "none"
    remedy: str = ""
    indent: int = 2
    hang: int = 2
    """Columns between the sign and the text."""
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = min(options.max_width, WIDTH) - self.indent - self.hang
        body = Text(clean_line(self.text), self.style)
        remedy = Text(clean_line(self.remedy), "dim")
        first = Text(" " * self.indent).append_text(mark(self.state)).append(" " * (self.hang - 1))
        for part in (body, remedy):
            for line in part.wrap(console, max(20, room)) if part.plain else ():
                line.rstrip()
                yield first.append_text(line)
                first = Text(" " * (self.indent + self.hang))


def commands(pairs: Iterable[tuple[str, str]]) -> list[Text]:
    """Return lines of a dim word and a path or command to paste, which is never broken."""
    rows = list(pairs)
    wide = max((len(word) for word, _ in rows), default=0) + 2
    return [
        Text(no_wrap=True, overflow="ignore")
        .append("    " + word.ljust(wide), "dim")
        .append(clean_line(what), "bold" if what.startswith("trainable ") else "")
        for word, what in rows
    ]


def show_error(error: TrainableError) -> None:
    """Print what went wrong and what to do, on stderr."""
    text, remedy = as_options(error.text), as_options(error.remedy)
    people().show([Note(text=text, state="failed", remedy=remedy, indent=0)])
