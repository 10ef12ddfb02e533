"""Tables in JSON: records, columns, the `split` layout of pandas, and one record a line."""

import json
import re
from pathlib import Path
from typing import Any, cast

import pandas as pd

from trainable.dataset.encoding import Contents
from trainable.dataset.source import FileInfo
from trainable.errors import DataError

_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_LAYOUTS = "a list of records, a mapping of columns, or one record a line"


def read_json(path: Path, contents: Contents, info: FileInfo) -> pd.DataFrame:
    """Return the table, and write into `info` how it was read.

    Raises:
        DataError: The text is no JSON, or no table.
    """
    if contents.encoding is None:
        raise DataError(f"{info.name!r} is not text.", remedy="Save the table as JSON or parquet.")
    info.encoding = "utf-8" if contents.encoding == "utf-8-sig" else contents.encoding
    text = path.read_text(encoding=contents.encoding)
    if not info.name.lower().endswith((".jsonl", ".ndjson")):
        info.format = "json"
        try:
            return _frame(_parse(text), info)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise DataError(
                    f"{info.name!r} is not valid JSON: {error.msg}, line {error.lineno}.",
                    remedy="Write the file again.",
                ) from error
    info.format = "jsonl"
    return _frame(_lines(text, info), info)


def _parse(text: str) -> Any:
    value = json.loads(text)
    if _HALF_A_PAIR.search(text):  # it may escape what UTF-8 cannot hold
        plain = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        return json.loads(plain)
    return value


def _lines(text: str, info: FileInfo) -> list[Any]:
    records: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(_parse(line))
        except json.JSONDecodeError as error:
            raise DataError(
                f"Line {number} of {info.name!r} is not valid JSON: {error.msg}.",
                remedy="Mend or remove that line.",
            ) from error
    return records


def _frame(data: Any, info: FileInfo) -> pd.DataFrame:
    """Return the table that the JSON value is, whichever usual layout it has."""
    if isinstance(data, dict):
        table = cast("dict[str, Any]", data)
        if isinstance(table.get("columns"), list) and isinstance(table.get("data"), list):
            return _built(table["data"], info, table["columns"])
        lists = [k for k, v in table.items() if isinstance(v, list) and _all(v, dict)]
        if len(lists) == 1 and len(table[lists[0]]) > 0:
            info.notes.append(f"The records were taken from the key {lists[0]!r}.")
            return _built(table[lists[0]], info)
        if table and _all(list(table.values()), list):
            return _built(table, info)
        if table and _all(list(table.values()), dict):
            return _from_mappings(table, info)
    if isinstance(data, list):
        records = cast("list[Any]", data)
        if not records:
            raise DataError(f"{info.name!r} has no rows.", remedy="Pass a table with rows in it.")
        if _all(records, dict):
            return _built(records, info)
        if _all(records, list):
            return _from_rows(records, info)
    raise DataError(f"{info.name!r} is JSON, but no table.", remedy=f"Write {_LAYOUTS}.")


def _from_mappings(table: dict[str, Any], info: FileInfo) -> pd.DataFrame:
    """Read `{column: {row: value}}`, or `{row: {column: value}}` when the keys say so."""
    inner = cast("list[dict[str, Any]]", list(table.values()))
    by_column = all(key.isdigit() for key in inner[0])
    if by_column or len(inner[0]) > len(table):
        rows = list(dict.fromkeys(key for column in inner for key in column))
        return _built({name: [c.get(row) for row in rows] for name, c in table.items()}, info)
    return _built(inner, info)


def _from_rows(rows: list[Any], info: FileInfo) -> pd.DataFrame:
    if len(rows) > 1 and _all(rows[0], str) and not all(_all(row, str) for row in rows):
        return _built(rows[1:], info, rows[0])
    info.header = False
    info.notes.append("There is no header, so the columns are called column_1, column_2, ….")
    frame = _built(rows, info)
    return frame.set_axis([f"column_{k + 1}" for k in range(frame.shape[1])], axis=1)


def _built(data: Any, info: FileInfo, columns: list[Any] | None = None) -> pd.DataFrame:
    try:
        return pd.DataFrame(data, columns=cast("Any", columns))
    except (ValueError, TypeError, AssertionError) as error:
        raise DataError(
            f"{info.name!r} is JSON, but its columns are not equally long.",
            remedy=f"Write {_LAYOUTS}.",
        ) from error


def _all(values: Any, kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)
