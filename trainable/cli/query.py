"""Prints the answer to an SQL query, as a table or as JSON lines."""

import sys
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from trainable.cli.console import people, results
from trainable.cli.text import clean_line, count, shorten, width_of
from trainable.session import Session

if TYPE_CHECKING:
    import pandas as pd

CELL = 40
"""Width of a cell on a terminal."""
PADDING = 2


def print_query(session_id: str, query: str, limit: int, *, as_json: bool) -> None:
    """Print the rows on stdout, and how many there are on stderr."""
    frame = Session.load(session_id).sql(query, limit=limit)
    if as_json:
        lines = frame.to_json(orient="records", lines=True, date_format="iso", double_precision=15)
        sys.stdout.write(lines)
        return
    console = results()
    room = console.width if console.is_terminal else None
    table, shown = _table(frame, room)
    console.print(table, crop=room is not None, width=room or _wide(frame))
    rows = (
        f"First {len(frame):,} rows" if frame.attrs.get("truncated") else count(len(frame), "row")
    )
    notes = [f"{rows}, {count(frame.shape[1], 'column')}"]
    if shown < frame.shape[1]:
        notes.append(f"{frame.shape[1] - shown} columns do not fit: name those you want, or --json")
    if frame.attrs.get("truncated"):
        notes.append("more with --limit")
    people().print(Text(". ".join(notes) + ".", "dim"))


def _table(frame: "pd.DataFrame", room: int | None) -> tuple[Table, int]:
    """Return the table, and how many of the columns fit into `room`."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, header_style="dim", border_style="dim")
    cells = _cells(frame, CELL if room else None)
    shown = 0
    for name, column in zip(map(str, frame.columns), cells, strict=True):
        title = clean_line(name) if room is None else shorten(clean_line(name), CELL)
        wide = max([width_of(title), *map(width_of, column)]) + PADDING + 1
        if room is not None:
            if shown and wide > room:
                break
            room -= wide
        numeric = frame.dtypes.iloc[shown].kind in "iuf"
        table.add_column(Text(title), justify="right" if numeric else "left", no_wrap=True)
        shown += 1
    for row in zip(*cells[:shown], strict=True):
        table.add_row(*(Text(cell) for cell in row))
    return table, shown


def _cells(frame: "pd.DataFrame", width: int | None) -> list[list[str]]:
    columns: list[list[str]] = []
    for position in range(frame.shape[1]):
        column = frame.iloc[:, position]
        gaps = column.isna()
        texts = [
            "" if gap else clean_line(_text(value)) for value, gap in zip(column, gaps, strict=True)
        ]
        columns.append(texts if width is None else [shorten(text, width) for text in texts])
    return columns


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _wide(frame: "pd.DataFrame") -> int:
    return sum(
        PADDING + 1 + max([width_of(name), *map(width_of, column)])
        for name, column in zip(map(str, frame.columns), _cells(frame, None), strict=True)
    )
