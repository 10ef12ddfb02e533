"""The canonical form of a table: what parquet keeps and pandas reads back the same."""
# pyright: basic
# pyarrow, and the extension types of pandas, are not typed.

import base64
import hashlib
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

_ROW_GROUP = 122_880
_TEXT = pd.Series([""]).dtype
"""What pandas makes of text: `str` from version 3 on, before that `object`."""


def unique_names(labels: Iterable[object]) -> list[str]:
    """Return the labels as strings, blank ones as `column_k`, repeated ones as `name.1`."""
    names: list[str] = []
    taken: set[str] = set()
    wanted = [_label(label) or f"column_{k}" for k, label in enumerate(labels, 1)]
    given, repeats = set(wanted), dict[str, int]()
    for name in wanted:
        unique = name
        while unique in taken or (unique != name and unique in given):
            repeats[name] = repeats.get(name, 0) + 1
            unique = f"{name}.{repeats[name]}"
        taken.add(unique)
        names.append(unique)
    return names


def stored_columns(folder: Path) -> list[str]:
    """Return the columns of the table that `store` wrote into `folder`."""
    return list(pq.read_schema(folder / "raw.parquet").names)


def tidy(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the table in canonical form, and a sentence for each thing that was changed."""
    frame, notes = _keep_index(frame)
    names = unique_names(frame.columns)
    if repeated := [
        name for name, label in zip(names, frame.columns, strict=True) if name != str(label)
    ]:
        notes.append(
            f"Columns without a name of their own are now called {', '.join(repeated[:5])}."
        )
    columns = {name: _column(frame.iloc[:, k]) for k, name in enumerate(names)}
    mixed = [name for name, (_, note) in columns.items() if note]
    if mixed:
        notes.append(f"Values of several kinds were kept as text in: {', '.join(mixed[:5])}.")
    tidied = pd.DataFrame(
        {name: column for name, (column, _) in columns.items()}, index=pd.RangeIndex(len(frame))
    )
    tidied.columns = pd.Index(names)
    return tidied, notes


def write_parquet(frame: pd.DataFrame, sink: Any) -> str:
    """Write the table and return the SHA-256 of its bytes; the same table gives the same bytes."""
    hashing = _HashingSink(sink)
    table = pa.Table.from_pandas(frame, preserve_index=None)
    pq.write_table(table, pa.PythonFile(hashing, mode="w"), row_group_size=_ROW_GROUP)
    return hashing.digest.hexdigest()


def read_parquet(path: Path) -> pd.DataFrame:
    """Return the table of a parquet file.

    Raises:
        ValueError: It is none, or a damaged one.
    """
    try:
        return pq.read_table(path).to_pandas()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def parquet_digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 that the table's parquet file will have."""
    return write_parquet(frame, None)


class _HashingSink(io.RawIOBase):
    def __init__(self, sink: Any) -> None:
        self.digest = hashlib.sha256()
        self._sink = sink
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        block = bytes(data)
        self.digest.update(block)
        if self._sink is not None:
            self._sink.write(block)
        self._written += len(block)
        return len(block)


def _label(label: object) -> str:
    parts = cast("tuple[object, ...]", label) if isinstance(label, tuple) else (label,)
    words = ["" if _is_missing(part) else _plain(str(part)).strip() for part in parts]
    return "_".join(word for word in words if word)


def _keep_index(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Turn an index that says something into columns, and drop one that only counts."""
    index = frame.index
    counts = index.nlevels == 1 and index.name is None
    if counts and (isinstance(index, pd.RangeIndex) or pd.api.types.is_integer_dtype(index.dtype)):
        return frame.reset_index(drop=True), []
    names = [str(name) if name is not None else f"index_{k}" for k, name in enumerate(index.names)]
    if index.nlevels == 1 and index.name is None:
        names = ["index"]
    levels = [pd.Series(index.get_level_values(k).array, name=n) for k, n in enumerate(names)]
    kept = pd.concat([*levels, frame.reset_index(drop=True)], axis=1)
    return kept, [f"The index of the table was kept as the column {', '.join(map(repr, names))}."]


def _column(series: pd.Series) -> tuple[pd.Series, bool]:
    """Return the canonical column, and whether values of several kinds became text."""
    dtype = series.dtype
    values = series.reset_index(drop=True)
    if isinstance(dtype, pd.CategoricalDtype | pd.PeriodDtype | pd.IntervalDtype):
        return _text(values), False
    if isinstance(dtype, pd.SparseDtype):
        return _column(values.sparse.to_dense())
    if pd.api.types.is_datetime64_any_dtype(dtype) or dtype.kind == "m":
        return _storable_unit(values), False
    if dtype == _TEXT and getattr(dtype, "storage", "") == "pyarrow" and not values.isna().all():
        return values, False  # the usual case, and UTF-8 already
    if pd.api.types.is_extension_array_dtype(dtype) and not isinstance(dtype, pd.StringDtype):
        return _from_extension(values)
    if dtype.kind in "biu" or dtype in (np.float32, np.float64):
        return values, False
    if dtype.kind == "f":
        return values.astype("float32" if dtype == np.float16 else "float64"), False
    if dtype.kind == "c":
        return _text(values), False
    return _from_objects(values)


def _storable_unit(values: pd.Series) -> pd.Series:
    """Return the times in a unit that parquet has; it lacks seconds."""
    return values.dt.as_unit("us") if values.dt.unit == "s" else values


def _from_extension(values: pd.Series) -> tuple[pd.Series, bool]:
    """Turn nullable and Arrow-backed columns into what pandas makes of a file by default."""
    dtype = values.dtype
    if isinstance(dtype, pd.ArrowDtype):
        if pa.types.is_timestamp(dtype.pyarrow_dtype) or pa.types.is_duration(dtype.pyarrow_dtype):
            return _column(pd.Series(pa.array(values.array).to_pandas()))
        if not (pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)):
            return _from_objects(values.astype(object))
    if pd.api.types.is_bool_dtype(dtype):
        return _from_objects(values.astype(object))
    if pd.api.types.is_integer_dtype(dtype) and not values.isna().any():
        return pd.Series(values.to_numpy(dtype=getattr(dtype, "numpy_dtype", np.int64))), False
    if pd.api.types.is_numeric_dtype(dtype):
        return pd.Series(values.to_numpy(dtype="float64", na_value=math.nan)), False
    return _text(values), False


def _from_objects(values: pd.Series) -> tuple[pd.Series, bool]:
    match pd.api.types.infer_dtype(values, skipna=True):
        case "string":
            return _text(values), False
        case "boolean":
            return _booleans(values), False
        case "empty":
            return pd.Series(np.full(len(values), math.nan)), False
        case "integer" | "floating" | "mixed-integer-float" | "decimal":
            return _numbers(values), False
        case "date" | "datetime" | "datetime64":
            return _dates(values), False
        case "bytes" | "categorical":
            return _text(values), False
        case _:
            return _text(values), not _nested(values)


def _booleans(values: pd.Series) -> pd.Series:
    if not values.isna().any():
        return values.astype(bool)
    kept = [None if _is_missing(value) else bool(value) for value in values]
    return pd.Series(kept, dtype=object)


def _numbers(values: pd.Series) -> pd.Series:
    try:
        whole = pd.api.types.infer_dtype(values, skipna=False) == "integer"
        return pd.Series(values.to_numpy(dtype="int64" if whole else "float64", na_value=math.nan))
    except (OverflowError, TypeError, ValueError):
        return _text(values)


def _dates(values: pd.Series) -> pd.Series:
    try:
        return _storable_unit(pd.Series(pd.to_datetime(values)))
    except (ValueError, TypeError, OverflowError):
        return _text(values)


def _nested(values: pd.Series) -> bool:
    kinds = {type(value) for value in values if not _is_missing(value)}
    return bool(kinds) and kinds <= {dict, list, tuple, set, np.ndarray}


def _text(values: pd.Series) -> pd.Series:
    texts = [None if _is_missing(value) else _as_text(value) for value in values.astype(object)]
    if not any(text is not None for text in texts):
        return pd.Series(np.full(len(texts), math.nan))
    return pd.Series(texts)


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, np.ndarray | set | tuple):
        value = list(cast("Sequence[object]", value))
    if isinstance(value, dict | list):
        return _plain(json.dumps(value, ensure_ascii=False, default=_json_value))
    return _plain(str(value))


def _json_value(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, set):
        return sorted(map(str, cast("set[object]", value)))
    return str(value)


def _plain(text: str) -> str:
    """Return the text without halves of surrogate pairs, which UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _is_missing(value: object) -> bool:
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float) and value != value)
    )
