"""Reading one file into a table, by its format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath

import pandas as pd

from trainable.dataset.delimited import read_delimited
from trainable.dataset.encoding import Contents, examine
from trainable.dataset.json_table import read_json
from trainable.dataset.source import FileInfo, count
from trainable.dataset.table import read_parquet, tidy
from trainable.dataset.workbook import read_xlsx
from trainable.errors import DataError

FORMATS = "CSV, TSV, parquet, JSON, JSONL, xlsx, and .gz or .zip of them"
ARCHIVES = (".gz", ".zip")

Reader = Callable[[Path, Contents, FileInfo], pd.DataFrame]


def _read_parquet(path: Path, contents: Contents, info: FileInfo) -> pd.DataFrame:
    del contents
    info.format = "parquet"
    try:
        return read_parquet(path)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{info.name!r} is not a readable parquet file.", remedy="Write or download it again."
        ) from error


_READERS: dict[str, Reader] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt", ".data", ".dat"), read_delimited),
    **dict.fromkeys((".parquet", ".pq"), _read_parquet),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), read_json),
    **dict.fromkeys((".xlsx", ".xlsm"), read_xlsx),
}
_MAGIC = {
    b"PAR1": (".parquet", "a parquet file"),
    b"PK\x03\x04": (".xlsx", "an Excel file or a zip archive"),
    b"\x1f\x8b": (".gz", "a gzip file"),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """The table of one file or frame."""

    frame: pd.DataFrame
    info: FileInfo


def suffix(name: str) -> str:
    """Return the lower-case ending that says the format."""
    return PurePath(name).suffix.lower()


def is_supported(name: str) -> bool:
    """Whether a file of that name can be read."""
    return suffix(name) in _READERS or suffix(name) in ARCHIVES


def read_file(path: Path, name: str) -> Part:
    """Return the table in the file, which is called `name` in what users read.

    Raises:
        DataError: The file holds no table that can be used.
    """
    reader = _READERS.get(suffix(name))
    if reader is None:
        raise DataError(
            f"{name!r} has a format that cannot be read.", remedy=f"Use one of {FORMATS}."
        )
    try:
        contents = examine(path)
    except OSError as error:
        raise unreadable(name, error) from error
    if contents.size == 0:
        raise DataError(f"{name!r} is empty.", remedy="Pass a file that holds a table.")
    _check_magic(contents, reader, name)
    info = FileInfo(name=name, bytes=contents.size, sha256=contents.sha256)
    try:
        frame = reader(path, contents, info)
    except (UnicodeError, RecursionError, pd.errors.EmptyDataError, MemoryError) as error:
        raise DataError(
            f"{name!r} cannot be read as {suffix(name)[1:]}.", remedy="Save or download it again."
        ) from error
    except OSError as error:
        raise unreadable(name, error) from error
    return finish(frame, info)


def finish(frame: pd.DataFrame, info: FileInfo) -> Part:
    """Bring a table into canonical form and refuse one that has nothing to learn from.

    Raises:
        DataError: There are no rows, or fewer than two columns.
    """
    if len(frame) == 0:
        raise DataError(f"{info.name!r} has no rows.", remedy="Pass a table with rows in it.")
    frame, notes = tidy(frame)
    info.notes.extend(notes)
    if frame.shape[1] < 2:
        raise DataError(
            f"{info.name!r} has only {count(frame.shape[1], 'column')}.",
            remedy="Pass a table with at least two columns.",
        )
    if name := _counting_column(frame):
        info.notes.append(f"The column {name!r} only counts the rows; it was kept.")
    info.rows = len(frame)
    return Part(frame=frame, info=info)


def unreadable(name: str, error: OSError) -> DataError:
    """Return the error for a file that the system does not hand out."""
    if isinstance(error, PermissionError):
        return DataError(
            f"{name!r} may not be read by this user.", remedy="Change its permissions, or copy it."
        )
    reason = (error.strerror or "unknown error").lower()
    return DataError(f"{name!r} cannot be read: {reason}.", remedy="Check the path and the disk.")


def _check_magic(contents: Contents, reader: Reader, name: str) -> None:
    for magic, (ending, kind) in _MAGIC.items():
        if contents.head.startswith(magic) and _READERS.get(ending) is not reader:
            raise DataError(
                f"{name!r} is in truth {kind}.", remedy=f"Rename it so that it ends in {ending}."
            )


def _counting_column(frame: pd.DataFrame) -> str | None:
    """Return the first column's name when it numbers the rows from 0 or 1."""
    first = frame.iloc[:, 0]
    if not pd.api.types.is_integer_dtype(first.dtype) or len(first) < 3:
        return None
    start = int(first.iloc[0])
    counts = start in (0, 1) and bool((first.to_numpy() == range(start, start + len(first))).all())
    return str(frame.columns[0]) if counts else None
