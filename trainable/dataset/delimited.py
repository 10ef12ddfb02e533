"""CSV and its relatives, read with pandas as the sniffer says."""

import io
import warnings
from pathlib import Path
from typing import Any, cast

import pandas as pd

from trainable.dataset.encoding import Contents
from trainable.dataset.sniff import Dialect, sniff
from trainable.dataset.source import FileInfo, count, name_some
from trainable.dataset.table import unique_names
from trainable.errors import DataError

_NAMES = {"utf-8-sig": "UTF-8", "cp1252": "Windows-1252", "latin-1": "Latin-1"}
_WORDS = {"\t": "a tab", r"\s+": "blanks", ";": "';'", "|": "'|'", ",": "','"}
_BAD_SHARE = 0.01
_GROUPED = r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?"


def read_delimited(path: Path, contents: Contents, info: FileInfo) -> pd.DataFrame:
    """Return the table, and write into `info` how it was read.

    Raises:
        DataError: The text is no table.
    """
    if contents.encoding is None:
        raise DataError(f"{info.name!r} is not text.", remedy="Save the table as CSV or parquet.")
    promised = "\t" if info.name.lower().endswith((".tsv", ".tab")) else None
    dialect = sniff(path, contents.encoding, promised)
    if dialect is None:
        raise DataError(f"{info.name!r} is empty.", remedy="Pass a file that holds a table.")
    _describe(dialect, contents.encoding, info)
    if dialect.width < 2:
        raise DataError(
            f"{info.name!r} has only one column.",
            remedy="Pass a table with at least two columns, separated by commas, tabs, ';' or '|'.",
        )
    names = _column_names(dialect, info)
    frame = _read(path, contents.encoding, dialect, names, info)
    frame = _drop_repeated_headers(frame, dialect, info)
    return _read_grouped(_drop_blank(frame, dialect, info), dialect)


def _describe(dialect: Dialect, encoding: str, info: FileInfo) -> None:
    info.format = "tsv" if dialect.delimiter == "\t" else "csv"
    info.encoding = "utf-8" if encoding == "utf-8-sig" else encoding
    info.delimiter, info.header = dialect.delimiter, dialect.header
    info.decimal = dialect.decimal
    if encoding in ("cp1252", "latin-1"):
        info.notes.append(f"The text is not UTF-8 and was read as {_NAMES[encoding]}.")
    if dialect.delimiter != ",":
        word = _WORDS.get(dialect.delimiter, repr(dialect.delimiter))
        info.notes.append(f"The columns are separated by {word}.")
    if dialect.decimal == ",":
        info.notes.append("Numbers have a decimal comma.")
    if dialect.skip:
        info.notes.append(f"Left out {count(dialect.skip, 'line')} before the table.")
    if dialect.strip:
        info.notes.append("Blanks behind the delimiters were removed.")


def _column_names(dialect: Dialect, info: FileInfo) -> list[str]:
    if not dialect.header:
        info.notes.append(
            f"There is no header, so the columns are called column_1 to column_{dialect.width}."
        )
        return unique_names([""] * dialect.width)
    names = unique_names(dialect.head)
    if repeated := [n for n, cell in zip(names, dialect.head, strict=True) if cell and n != cell]:
        info.notes.append(f"Names that came twice were made unique: {name_some(repeated)}.")
    return names


def _options(dialect: Dialect, encoding: str, names: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "sep": dialect.delimiter,
        "encoding": encoding,
        "quotechar": dialect.quote,
        "escapechar": dialect.escape,
        "skiprows": dialect.skip,
        "header": 0 if dialect.header else None,
        "names": names,
        "index_col": False,
        "skipinitialspace": dialect.strip,
        "decimal": dialect.decimal,
        "low_memory": False,
    }
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
        options["float_precision"] = "round_trip"  # what later versions always do
    return options


def _read(
    path: Path, encoding: str, dialect: Dialect, names: list[str], info: FileInfo
) -> pd.DataFrame:
    options = _options(dialect, encoding, names)
    try:
        return cast("pd.DataFrame", pd.read_csv(path, **options))
    except pd.errors.ParserError as error:
        if "Expected" not in str(error):
            raise _broken(info, error) from error
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", pd.errors.ParserWarning)
            frame = cast("pd.DataFrame", pd.read_csv(path, on_bad_lines="warn", **options))
    except pd.errors.ParserError as error:
        raise _broken(info, error) from error
    skipped = [
        line.split()[2].rstrip(":")
        for warning in caught
        for line in str(warning.message).splitlines()
        if line.startswith("Skipping line")
    ]
    if len(skipped) > max(1, _BAD_SHARE * len(frame)):
        raise DataError(
            f"{info.name!r} has {count(len(skipped), 'line')} with more cells than the header "
            f"names (the first is line {skipped[0]}).",
            remedy="Put cells that hold the delimiter in quotes.",
        )
    info.notes.append(
        f"Left out {count(len(skipped), 'line')} with too many cells: "
        f"line {', '.join(skipped[:5])}{', …' if len(skipped) > 5 else ''}."
    )
    return frame


def _broken(info: FileInfo, error: pd.errors.ParserError) -> DataError:
    if "EOF inside string" in str(error):
        return DataError(
            f"{info.name!r} opens a quotation mark that is never closed.",
            remedy="Close or double the quotation mark, or save the table as parquet.",
        )
    return DataError(
        f"{info.name!r} cannot be read as a table.", remedy="Save it as CSV or parquet again."
    )


def _drop_repeated_headers(frame: pd.DataFrame, dialect: Dialect, info: FileInfo) -> pd.DataFrame:
    """Leave out rows that are the header again, as files put behind each other have them."""
    if not dialect.header or len(frame) < 2:
        return frame
    repeats = pd.Series(data=True, index=frame.index)
    for k, cell in enumerate(dialect.head):
        column = frame.iloc[:, k]
        repeats &= (column.astype(object) == cell) if cell else column.isna()
        if not repeats.any():
            return frame
    info.notes.append(
        f"Left out {count(int(repeats.sum()), 'line')} that only repeated the header."
    )
    text = frame[~repeats].to_csv(index=False)
    return pd.read_csv(io.StringIO(text), low_memory=False)


def _drop_blank(frame: pd.DataFrame, dialect: Dialect, info: FileInfo) -> pd.DataFrame:
    """Leave out what spreadsheets leave behind: nameless empty columns, and empty rows."""
    blank = frame.isna().all(axis=1) if frame.iloc[:, 0].isna().any() else None
    if blank is not None and blank.any():
        frame = frame[~blank].reset_index(drop=True)
        info.notes.append(f"Left out {count(int(blank.sum()), 'row')} without any value.")
    if not dialect.header:
        return frame
    nameless = [n for n, cell in zip(frame.columns, dialect.head, strict=True) if not cell]
    empty = [name for name in nameless if frame[name].isna().all()]
    if kept := [name for name in nameless if name not in empty]:
        info.notes.append(f"Columns without a name in the header are called {name_some(kept)}.")
    if empty and len(frame):
        frame = frame.drop(columns=empty)
        info.notes.append(f"Left out {count(len(empty), 'column')} without a name or a value.")
    return frame


def _read_grouped(frame: pd.DataFrame, dialect: Dialect) -> pd.DataFrame:
    """Make numbers of columns such as `1.234,50`, where the decimal comma is established."""
    if dialect.decimal != ",":
        return frame
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column.dtype) or column.isna().all():
            continue
        cells = column.dropna().astype(str).str.strip()
        if cells.str.fullmatch(_GROUPED).all() and cells.str.contains(",").any():
            plain = cells.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
            frame[name] = plain.astype("float64").reindex(frame.index)
    return frame
