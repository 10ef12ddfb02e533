"""How a delimited text file is laid out, found on a sample of it.

DuckDB's sniffer decides; the first rows are looked at again where it is known to be mistaken:
headers of years, headers that are data, row names without a heading, lines of uneven length.
"""

import csv
import itertools
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

_SAMPLE = 1 << 20
_ROWS = 2000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA_NUMBER = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+")
_COMMA_INTEGER = re.compile(r"[+-]?\d+")
_BLANKS = r"\s+"
_NONE = ("", "\0", "(empty)")
"""How versions of DuckDB say that there is no such character."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How to read a delimited text file."""

    delimiter: str
    quote: str = '"'
    escape: str | None = None
    skip: int = 0
    """Lines before the table."""
    header: bool = True
    decimal: str = "."
    strip: bool = False
    """Whether blanks follow the delimiters."""
    head: tuple[str, ...] = ()
    """The first row as it stands in the file, the header where there is one."""
    width: int = 0
    """Number of columns."""


def sniff(path: Path, encoding: str, delimiter: str | None = None) -> Dialect | None:
    """Return the layout of the file, or None when it holds no text.

    Args:
        path: The file.
        encoding: Its codec.
        delimiter: What the name of the file promises, used when the text agrees.
    """
    lines = _sample(path, encoding)
    if not any(line.strip() for line in lines):
        return None
    dialect = _ask_duckdb(lines)
    table = _rows(lines, dialect) if dialect else []
    if dialect is None or len(table[0] if table else ()) < 2:
        dialect = _by_counting(lines, delimiter) or dialect or Dialect(delimiter=",")
    return _look_again(lines, dialect)


def _sample(path: Path, encoding: str) -> list[str]:
    """Return whole lines, ends kept, from the start of the file."""
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        text = file.read(_SAMPLE)
        cut = bool(file.read(1))
    text = text.removeprefix("\ufeff")
    lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)
    if cut and len(lines) > 2:
        lines.pop()
    return [line for line in lines if line]


def _ask_duckdb(lines: list[str]) -> Dialect | None:
    with tempfile.TemporaryDirectory(prefix="trainable-") as folder:
        sample = Path(folder) / "sample.csv"
        sample.write_bytes("".join(lines).encode("utf-8", "replace"))
        with duckdb.connect() as connection:
            try:
                connection.execute(
                    "SELECT Delimiter, Quote, Escape, SkipRows, HasHeader FROM sniff_csv(?)",
                    [str(sample)],
                )
                found = connection.fetchall()[0]
            except duckdb.Error:
                return None
    delimiter, quote, escape, skip, header = found
    quote = '"' if quote in _NONE else quote
    escape = None if escape in (*_NONE, quote) else escape
    return Dialect(delimiter=delimiter, quote=quote, escape=escape, skip=skip, header=header)


def _rows(lines: list[str], dialect: Dialect) -> list[list[str]]:
    """Return the first rows, blank lines left out."""
    rest = lines[dialect.skip :]
    if dialect.delimiter == _BLANKS:
        return [line.split() for line in rest[:_ROWS] if line.strip()]
    reader = csv.reader(
        rest,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        escapechar=dialect.escape,
        skipinitialspace=True,
    )
    rows: list[list[str]] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
            if len(rows) >= _ROWS:
                break
    except csv.Error:  # a cell beyond the limit of the csv module: the rows so far will do
        pass
    return rows


def _by_counting(lines: list[str], promised: str | None) -> Dialect | None:
    """Return the delimiter that cuts nearly all lines into the same number of cells."""
    for delimiter in dict.fromkeys([promised or ",", ",", ";", "\t", "|", _BLANKS]):
        dialect = Dialect(delimiter=delimiter, header=True)
        rows = _rows(lines, dialect)
        widths = Counter(map(len, rows))
        width, times = widths.most_common(1)[0] if widths else (0, 0)
        if width >= 2 and times >= 0.6 * len(rows) and abs(len(rows[0]) - width) <= 1:
            header = not any(_NUMBER.fullmatch(cell.strip()) for cell in rows[0])
            return replace(dialect, header=header)
    return None


def _look_again(lines: list[str], dialect: Dialect) -> Dialect:
    dialect = _past_blanks(lines, _check_skip(lines, dialect))
    rows = _rows(lines, dialect)
    if not rows:
        return replace(dialect, width=0)
    width = _usual_width(rows[1:] or rows)
    if dialect.header and _is_data(rows):
        dialect = replace(dialect, header=False)
    elif not dialect.header and (_years(rows[0]) or len(rows[0]) == width - 1):
        dialect = replace(dialect, header=True)
    body = rows[1:] if dialect.header else rows
    return replace(
        dialect,
        head=_heading(rows[0], body, width),
        width=max(width, len(rows[0])),
        strip=_blanks_follow(lines[dialect.skip :], dialect.delimiter),
        decimal="," if dialect.delimiter != "," and _decimal_comma(body) else ".",
    )


def _usual_width(rows: list[list[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0]


def _heading(first: list[str], body: list[list[str]], width: int) -> tuple[str, ...]:
    """Return the first row, made as wide as the table when it names one column too few."""
    cells = [cell.strip() for cell in first]
    if len(cells) == width - 1:
        trailing = all(not row[-1].strip() for row in body if len(row) == width)
        cells = [*cells, ""] if trailing else ["", *cells]
    return tuple(cells + [""] * (width - len(cells)))


def _check_skip(lines: list[str], dialect: Dialect) -> Dialect:
    """Take back lines that were to be skipped although they belong to the table."""
    if not dialect.skip:
        return dialect
    table = _rows(lines, dialect)
    skipped = _rows(lines[: dialect.skip], replace(dialect, skip=0))
    if not table:
        return dialect
    everything = replace(dialect, skip=0)
    usual = _usual_width(skipped) if skipped else 0
    if usual >= 2 and (len(skipped) > len(table) or usual == _usual_width(table)):
        return replace(everything, header=_names(skipped[0]))
    above = replace(dialect, skip=_line_above(lines, dialect.skip), header=True)
    first = _rows(lines, above)[:1]
    width = _usual_width(table)
    if not dialect.header and first and len(first[0]) == width - 1 and _names(first[0]):
        return above
    return dialect


def _past_blanks(lines: list[str], dialect: Dialect) -> Dialect:
    skip = dialect.skip
    while skip and skip < len(lines) and not lines[skip].strip():
        skip += 1
    return replace(dialect, skip=skip)


def _line_above(lines: list[str], skip: int) -> int:
    while skip and not lines[skip - 1].strip():
        skip -= 1
    return max(skip - 1, 0)


def _names(row: list[str]) -> bool:
    filled = [cell for cell in row if cell.strip()]
    return len(set(filled)) == len(filled) >= 1 and not any(map(_NUMBER.fullmatch, filled))


def _is_data(rows: list[list[str]]) -> bool:
    """Whether the cells of the first row come again in their own columns."""
    first, body = rows[0], [row for row in rows[1:] if row != rows[0]]
    if len(body) < 5:
        return False
    again = sum(
        cell.strip() != "" and any(len(row) > k and row[k] == cell for row in body)
        for k, cell in enumerate(first)
    )
    return again >= len(first) / 2


def _years(row: list[str]) -> bool:
    """Whether the cells, but for the first ones, count up as years do."""
    tail = [cell.strip() for cell in row]
    while tail and not _NUMBER.fullmatch(tail[0]):
        tail.pop(0)
    if len(tail) < 2 or (len(tail) == len(row) and len(tail) < 3):
        return False
    if not all(re.fullmatch(r"(1[89]|20|21)\d\d", cell) for cell in tail):
        return False
    years = [int(cell) for cell in tail]
    return all(later - year == 1 for year, later in itertools.pairwise(years))


def _blanks_follow(lines: list[str], delimiter: str) -> bool:
    """Whether nearly every delimiter outside of quotes has a blank behind it."""
    if delimiter in (_BLANKS, " "):
        return False
    bare = re.sub(r'"[^"]*"', '""', "".join(lines[:_ROWS]))
    followed = bare.count(f"{delimiter} ")
    return followed > 0 and followed >= 0.9 * (
        bare.count(delimiter) - _empty_cells(bare, delimiter)
    )


def _empty_cells(text: str, delimiter: str) -> int:
    return len(re.findall(re.escape(delimiter) + rf"(?={re.escape(delimiter)}|[\r\n]|$)", text))


def _decimal_comma(rows: list[list[str]]) -> bool:
    """Whether some columns are numbers with a decimal comma, and none has a decimal point."""
    found = False
    for column in zip(*(row for row in rows if len(row) == len(rows[0])), strict=True):
        cells = [cell.strip() for cell in column if cell.strip()]
        pointed = [cell for cell in cells if _NUMBER.fullmatch(cell) and "." in cell]
        if cells and len(pointed) > len(cells) / 2:
            return False
        commas = sum(bool(_COMMA_NUMBER.fullmatch(cell)) for cell in cells)
        whole = sum(bool(_COMMA_INTEGER.fullmatch(cell)) for cell in cells)
        found = found or (commas > 0 and commas + whole >= 0.9 * len(cells))
    return found
