"""A table from whatever the user has, and an account of how it was read.

Dates are not parsed and nothing is cleaned here: that is for EDA and Prep to decide.
"""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from trainable.dataset.archive import Limits
from trainable.dataset.combine import combine
from trainable.dataset.encoding import examine
from trainable.dataset.find import Findings, find
from trainable.dataset.read import ARCHIVES, Part, finish, read_file
from trainable.dataset.source import FileInfo, name_some
from trainable.dataset.store import store
from trainable.dataset.table import parquet_digest, stored_columns
from trainable.errors import DataError, TargetError, nearest

__all__ = ["Data", "Dataset", "Original", "check_columns", "load", "store", "stored_columns"]

AnyPath = str | os.PathLike[str]
Data = AnyPath | Sequence[AnyPath] | pd.DataFrame | Mapping[str, pd.DataFrame]
"""What a dataset can be made of."""

_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Original:
    """A file of the user, as it was when it was read."""

    path: Path
    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A table in canonical form."""

    frame: pd.DataFrame
    """Its rows; the position of a row is its `row_id`."""
    source: dict[str, Any]
    """How it was read: `name`, `rows`, `columns`, `files`, `notes`, `raw_sha256`."""
    name: str
    """A name for the experiment."""
    originals: tuple[Original, ...] = ()
    """The files to keep beside it; none for DataFrames."""


def load(data: Data, *, limits: Limits | None = None) -> Dataset:
    """Read the data.

    Args:
        data: A file, a folder, several files, a DataFrame, or names with DataFrames.
        limits: What an archive may unpack to.

    Raises:
        DataError: It cannot be read or is no table; the message says what to do.
    """
    if isinstance(data, pd.DataFrame):
        return _from_frames({"data": data})
    if isinstance(data, Mapping):
        return _from_frames(data)
    paths = [data] if isinstance(data, str | os.PathLike) else _checked(cast("object", data))
    with tempfile.TemporaryDirectory(prefix="trainable-") as scratch:
        findings = find(paths, Path(scratch), limits or Limits())
        parts = [read_file(file.path, file.name) for file in findings.files]
        notes = [*findings.notes]
        frame = combine(parts, notes)
    return _dataset(frame, parts, notes, name=_name(paths), originals=_originals(findings, parts))


def check_columns(columns: Sequence[str], wanted: Mapping[str, str | None]) -> None:
    """Make sure that columns exist.

    Args:
        columns: The columns of the table.
        wanted: Names, by what they are for: `target`, `group` or `time`; None where none is named.

    Raises:
        TargetError: One does not; the message names the nearest one.
    """
    for what, name in wanted.items():
        if name is not None and name not in columns:
            hint = nearest(name, columns).strip()
            raise TargetError(
                f"There is no column {name!r} for {what}=.",
                remedy=hint or f"The columns are {name_some(list(columns), 8)}.",
                code=f"unknown_{what}",
            )


def _checked(data: object) -> list[AnyPath]:
    """Return the paths in a sequence that holds nothing else."""
    if isinstance(data, list | tuple):
        given = cast("Sequence[object]", data)
        paths = [cast("AnyPath", path) for path in given if isinstance(path, str | os.PathLike)]
        if paths and len(paths) == len(given):
            return paths
        if not given:
            raise DataError("There are no files in the list.", remedy="Pass at least one path.")
    raise DataError(
        f"{_clip(cast('object', data))} is no data that can be read.",
        remedy="Pass a file, a folder, several files, a DataFrame, or names with DataFrames.",
    )


def _clip(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _from_frames(frames: Mapping[str, object]) -> Dataset:
    parts: list[Part] = []
    for name, frame in frames.items():
        if not isinstance(frame, pd.DataFrame):
            raise DataError(
                f"{name!r} is a {type(frame).__name__} and no DataFrame.",
                remedy='Pass {"name": frame, ...}, one DataFrame, or a file.',
            )
        parts.append(finish(frame, FileInfo(name=str(name), format="dataframe")))
    if not parts:
        raise DataError("The mapping is empty.", remedy='Pass {"name": frame, ...}.')
    notes: list[str] = []
    frame = combine(parts, notes)
    name = str(next(iter(frames))) if len(frames) == 1 else "data"
    return _dataset(frame, parts, notes, name=name, originals=())


def _dataset(
    frame: pd.DataFrame,
    parts: Sequence[Part],
    notes: list[str],
    *,
    name: str,
    originals: tuple[Original, ...],
) -> Dataset:
    several = len(parts) > 1
    for part in parts:
        prefix = f"{part.info.name}: " if several else ""
        notes.extend(f"{prefix}{note}" for note in part.info.notes)
    source: dict[str, Any] = {
        "schema_version": _SCHEMA_VERSION,
        "name": name,
        "rows": len(frame),
        "columns": frame.shape[1],
        "files": [part.info.as_dict() for part in parts],
        "notes": notes,
        "raw_sha256": parquet_digest(frame),
    }
    return Dataset(frame=frame, source=source, name=name, originals=originals)


def _originals(findings: Findings, parts: Sequence[Part]) -> tuple[Original, ...]:
    known = {part.info.name: part.info.sha256 for part in parts}
    found: list[Original] = []
    for file in findings.originals:
        sha256 = known.get(file.name) or examine(file.path).sha256
        found.append(Original(path=file.path.absolute(), name=file.name, sha256=sha256))
    return tuple(found)


def _name(paths: Sequence[AnyPath]) -> str:
    if len(paths) > 1:
        return "data"
    path = Path(paths[0]).expanduser().resolve()
    stem = path.name
    if not path.is_dir():
        for _ in range(2 if path.suffix.lower() in ARCHIVES else 1):
            stem = re.sub(r"(?<=.)\.\w+$", "", stem)
    return stem or "data"
