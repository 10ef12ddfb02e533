"""Read-only SQL over the tables of a session, run by DuckDB in a sandbox.

The host never opens the tables, which an agent may have written: it reads bounded JSON only.
"""

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from trainable.dataset.table import unique_names
from trainable.errors import QueryError, nearest
from trainable.sandbox.base import BoxSpec, Changed, CodeResult, Output, Record, Sandbox

_SCRIPT = Path(__file__).with_name("explorer_query.py")
_MOST_SQL = 64 << 10
_MOST_ROWS = 1_000_000
_MOST_CHARACTERS = 32 << 20
_INTEGERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_READS = "SELECT, WITH, FROM, VALUES, PIVOT, DESCRIBE, SUMMARIZE, SHOW and EXPLAIN"


class _Column(BaseModel):
    name: str
    type: str


class _Failure(BaseModel):
    kind: str
    message: str
    broken: list[str]
    """Tables whose files cannot be read."""


class _Answer(BaseModel):
    """What the script prints: rows, a refusal or a failure."""

    columns: list[_Column] = []
    rows: list[list[Any]] = []
    truncated: bool = False
    refused: list[str] = []
    failed: _Failure | None = None


class Explorer:
    """Answers queries over views, one a file.

    Where there are `train`, `val` or `test`, the view `all_data` has the rows of all of them.
    """

    def __init__(self, sandbox: Sandbox, tables: Mapping[str, Path], workdir: Path) -> None:
        """Make an explorer.

        Args:
            sandbox: Where the queries run.
            tables: The parquet or CSV file behind each view, such as `raw` and `train`; files
                that do not exist (yet) are left out at each query.
            workdir: A folder for the requests; made when it is missing.
        """
        self._sandbox = sandbox
        self._tables = {name: path.absolute() for name, path in tables.items()}
        self._workdir = workdir

    async def query(self, sql: str, *, limit: int = 10_000, timeout: float = 10.0) -> pd.DataFrame:
        """Return the rows; `attrs["truncated"]` says whether some were left out.

        Args:
            sql: One statement that reads, at most 64 KiB.
            limit: Most rows to return.
            timeout: Seconds that it may run.

        Raises:
            QueryError: It is no such statement, it failed, or it ran into a limit.
            SandboxError: The sandbox failed.
        """
        _check(sql, limit, timeout)
        tables, folder = await asyncio.to_thread(self._prepare)
        text = sql.encode("utf-8", "replace").decode()  # no halves of surrogate pairs
        try:
            text, result = await self._run({"sql": text, "limit": limit}, tables, folder, timeout)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if result.timed_out:
            raise QueryError(
                f"The query ran longer than {timeout:g} seconds.",
                remedy="Aggregate or filter more, or raise the time limit.",
                code="time_limit",
            )
        return _frame(_parse(text, result), tables)

    def _prepare(self) -> tuple[dict[str, Path], Path]:
        tables = {name: path for name, path in self._tables.items() if path.is_file()}
        self._workdir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="query-", dir=self._workdir)).absolute()
        return tables, folder

    async def _run(
        self, request: dict[str, Any], tables: Mapping[str, Path], folder: Path, timeout: float
    ) -> tuple[str, CodeResult]:
        printed: list[str] = []
        left = _MOST_CHARACTERS

        async def push(item: Output | Record | Changed) -> None:
            nonlocal left
            if isinstance(item, Output) and item.stream == "stdout" and left > 0:
                printed.append(item.text[:left])
                left -= len(item.text)

        spec = BoxSpec(
            workdir=folder,
            readonly=tuple(dict.fromkeys(path.parent for path in tables.values())),
            preload=("duckdb",),
            trusted=True,
        )
        code = await asyncio.to_thread(_SCRIPT.read_text, "utf-8")
        async with self._sandbox.open(spec) as box:
            paths = {name: box.inside(path) for name, path in tables.items()}
            text = json.dumps(request | {"tables": paths})
            await asyncio.to_thread((folder / "request.json").write_text, text, "utf-8")
            result = await box.run_code(code, script=_SCRIPT, timeout=timeout, push=push)
        return "".join(printed), result


def _check(sql: str, limit: int, timeout: float) -> None:
    if not 1 <= limit <= _MOST_ROWS:
        raise QueryError(
            f"The row limit cannot be {limit:,}.", remedy=f"Choose 1 to {_MOST_ROWS:,}."
        )
    if not 0 < timeout <= 3600:
        raise QueryError(
            f"The time limit cannot be {timeout:g} seconds.", remedy="Choose up to 3,600 seconds."
        )
    if len(sql.encode("utf-8", "replace")) > _MOST_SQL:
        raise QueryError(
            "The query is longer than 64 KiB.",
            remedy="Filter with a join or a subquery instead of a long list.",
            code="too_long",
        )


def _parse(text: str, result: CodeResult) -> _Answer:
    """Return the answer of the script, which is not to be trusted."""
    try:
        line = text.strip().rpartition("\n")[2]
        return _Answer.model_validate(json.loads(line, parse_constant=_refuse_constant))
    except (ValueError, RecursionError, ValidationError) as error:
        raise QueryError(
            f"The query ended without a result (exit code {result.exit_code}).",
            remedy="It may have run out of memory: select fewer rows or columns.",
            code="no_result",
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _frame(answer: _Answer, tables: Mapping[str, Path]) -> pd.DataFrame:
    if answer.refused:
        raise _refusal(answer.refused[0], "".join(answer.refused[1:2]), tables)
    if answer.failed is not None:
        raise _failure(answer.failed, tables)
    names = unique_names(column.name for column in answer.columns)
    try:
        values = list(zip(*answer.rows, strict=True)) if answer.rows else [()] * len(names)
        data = {
            name: _series(list(cells), column.type)
            for name, column, cells in zip(names, answer.columns, values, strict=True)
        }
    except (TypeError, ValueError, OverflowError) as error:
        raise QueryError(
            "The query gave an answer that is not a table.",
            remedy="Write it differently, and retry.",
        ) from error
    frame = pd.DataFrame(data, index=pd.RangeIndex(len(answer.rows)))
    frame.attrs["truncated"] = answer.truncated
    return frame


def _series(values: list[Any], kind: str) -> pd.Series:
    """Return the values as the pandas type nearest to DuckDB's."""
    gaps = any(value is None for value in values)
    if _INTEGERS.fullmatch(kind):
        if all(value is None or -(2**63) <= value < 2**63 for value in values):
            return pd.Series(values, dtype="Int64" if gaps else "int64")
        return pd.Series([np.nan if value is None else float(value) for value in values])
    if kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
        numbers = [np.nan if value is None else float(value) for value in values]
        return pd.Series(numbers, dtype="float32" if kind == "FLOAT" else "float64")
    if kind == "BOOLEAN":
        return pd.Series(values, dtype="boolean" if gaps else "bool")
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return _times(values, zoned=kind == "TIMESTAMP WITH TIME ZONE")
    if kind == "INTERVAL":
        return pd.Series(np.array(["NaT" if v is None else v for v in values], "timedelta64[us]"))
    if kind == "VARCHAR":
        return pd.Series(values, dtype=pd.Series([""]).dtype)
    return pd.Series(values, dtype="object")


def _times(values: list[Any], *, zoned: bool) -> pd.Series:
    try:
        stamps = np.array(["NaT" if v is None else str(v) for v in values], "datetime64[us]")
    except ValueError:  # beyond what pandas can hold
        return pd.Series(values)
    times = pd.DatetimeIndex(stamps)
    return cast("pd.Series[Any]", pd.Series(times.tz_localize("UTC") if zoned else times))


def _refusal(code: str, kind: str, tables: Mapping[str, Path]) -> QueryError:
    match code:
        case "no_statement":
            return QueryError(
                "The query is empty.", remedy=f"{_here(tables)} Try: FROM raw LIMIT 10.", code=code
            )
        case "several_statements":
            return QueryError(
                "Only one statement can run at a time.", remedy="Run them one by one.", code=code
            )
        case "too_large":
            return QueryError(
                "A single row of the result is larger than 16 MB.",
                remedy="Select fewer columns, or shorten the texts.",
                code=code,
            )
        case _:
            another = kind if kind not in ("", "MULTI") else "another statement"
            return QueryError(
                f"Only queries that read can run, and this is {another}.",
                remedy=f"Use {_READS}.",
                code="not_a_select",
            )


def _failure(failed: _Failure, tables: Mapping[str, Path]) -> QueryError:
    kind, message = failed.kind, failed.message
    if kind in ("OutOfMemoryException", "MemoryError"):
        return QueryError(
            "The query needs more than 1 GB of memory.",
            remedy="Aggregate or filter more, or select fewer columns.",
            code="memory_limit",
        )
    text = _clip(re.sub(r"^[\w ]+ Error: ", "", message.partition("\n")[0]).rstrip("! ."))
    if missing := re.search(r"Table with name (.+) does not exist", message):
        return _no_table(missing[1], tables, failed.broken)
    if found := re.search(r'Referenced column "(.*)" not found', message):
        return _no_column(found[1], message)
    hint = re.search(r"Did you mean (.{1,200}?)\?", message)
    place = re.search(r"^LINE (\d+): ", message, re.MULTILINE)
    where = f" (line {place[1]})" if place and place[1] != "1" else ""
    return QueryError(
        f"DuckDB refused the query: {text}{where}.",
        remedy=hint[0] if hint else "Correct it and run it again.",
        code=_CODES.get(kind, "query_failed"),
    )


def _no_table(name: str, tables: Mapping[str, Path], broken: list[str]) -> QueryError:
    if name in broken:
        return QueryError(
            f"The file of {name!r} is damaged.",
            remedy="Run the stage that wrote it again.",
            code="unreadable_table",
        )
    return QueryError(
        f"There is no table {_clip(name)!r}.",
        remedy=f"{nearest(name, [*tables, *_union(tables)])}{_here(tables)}",
        code="unknown_table",
    )


def _no_column(name: str, message: str) -> QueryError:
    candidates = re.search(r"Candidate bindings: (.*)", message)
    names = re.findall(r'"([^"]+)"', candidates[1]) if candidates else []
    close = nearest(name, [known.rpartition(".")[2] for known in names]).strip()
    listed = f"Near it are {', '.join(map(repr, names[:5]))}." if names else ""
    return QueryError(
        f"There is no column {_clip(name)!r}.",
        remedy=close or listed or "DESCRIBE raw lists the columns.",
        code="unknown_column",
    )


_CODES = {
    "ParserException": "syntax",
    "PermissionException": "not_allowed",
    "InvalidInputException": "not_allowed",
    "ConversionException": "wrong_type",
}


def _here(tables: Mapping[str, Path]) -> str:
    names = [*tables, *_union(tables)]
    if not names:
        return "There are no tables yet."
    early = "raw" in tables and "train" not in tables
    later = "; train, val and test come with Prep" if early else ""
    return (
        f"The tables are {', '.join(names)}{later}."
        if len(names) > 1
        else (f"The only table is {names[0]}{later}.")
    )


def _union(tables: Mapping[str, Path]) -> list[str]:
    return ["all_data"] if set(tables) & {"train", "val", "test"} else []


def _clip(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:299]}…"
