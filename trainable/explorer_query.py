"""Runs one SQL query over parquet and CSV files and prints the rows as one line of JSON.

A stand-alone script for a sandbox: it reads `request.json` in its working directory and imports
nothing of Trainable. DuckDB's own parser decides what a query is; files other than the tables,
extensions, settings and Python objects are out of its reach.
"""

import datetime
import json
import math
import sys
from pathlib import Path
from typing import Any, cast

import duckdb

SPLITS = ("train", "val", "test")
MOST_CHARACTERS = 16 << 20
"""Length of the JSON above which rows are left out."""
MEMORY = "1GB"
CONFIG: dict[str, Any] = {
    "allow_community_extensions": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": MEMORY,
    "python_enable_replacements": "false",
    "secret_directory": "/nonexistent",
    "temp_directory": "",
    "threads": "2",
}


class Refused(Exception):
    """The query is not one that may run; the first argument is the reason's code."""


def connect(tables: dict[str, str], broken: list[str]) -> duckdb.DuckDBPyConnection:
    """Return a connection that has the tables as views, and can reach nothing else.

    Tables whose file cannot be read are left out and added to `broken`.
    """
    connection = duckdb.connect(":memory:", config=CONFIG)
    paths = ", ".join(map(literal, tables.values()))
    connection.execute(f"SET allowed_paths = [{paths}]")
    connection.execute("SET enable_external_access = false")
    for name, path in tables.items():
        try:
            read = "read_csv" if path.endswith(".csv") else "read_parquet"
            connection.execute(f"CREATE VIEW {identifier(name)} AS FROM {read}({literal(path)})")
        except duckdb.Error:
            broken.append(name)
    if splits := [name for name in SPLITS if name in tables and name not in broken]:
        label = split_column(connection, splits)
        parts = " UNION ALL BY NAME ".join(
            f"SELECT *, {literal(name)} AS {label} FROM {name}"  # noqa: S608 - names are ours
            for name in splits
        )
        connection.execute(f"CREATE VIEW all_data AS {parts}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def split_column(connection: duckdb.DuckDBPyConnection, splits: list[str]) -> str:
    """Return a name for the column that says the split, other than those that exist."""
    taken: set[str] = set()
    for name in splits:
        described = connection.execute(f"DESCRIBE {name}").fetchall()
        taken.update(str(row[0]).lower() for row in described)
    label = "split"
    while label in taken:
        label = f"_{label}"
    return label


def literal(text: str) -> str:
    """Return the text as an SQL string."""
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def identifier(text: str) -> str:
    """Return the text as an SQL name."""
    quoted = text.replace('"', '""')
    return f'"{quoted}"'


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse anything but one statement that reads."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise Refused("no_statement" if not statements else "several_statements")
    kind = statements[0].type.name
    if kind == "MULTI":
        # A PIVOT is several statements inside; unlike other such ones it can be a subquery.
        text = statements[0].query.rstrip().rstrip(";")
        try:
            inner = connection.extract_statements(f"FROM (\n{text}\n)")
        except duckdb.Error:
            inner = []
        kind = "SELECT" if [one.type.name for one in inner] == ["MULTI"] else kind
    if kind not in ("SELECT", "EXPLAIN"):
        raise Refused("not_a_select", kind)


def run(connection: duckdb.DuckDBPyConnection, sql: str, limit: int) -> dict[str, Any]:
    """Return the columns and at most `limit` rows."""
    with connection:
        check(connection, sql)
        connection.execute(sql)
        described = connection.description or []
        columns = [{"name": str(row[0]), "type": str(row[1])} for row in described]
        rows: list[str] = []
        size, truncated = 0, False
        while not truncated and (batch := connection.fetchmany(500)):
            for row in batch:
                text = json.dumps([plain(value) for value in row], allow_nan=False)
                size += len(text)
                truncated = len(rows) == limit or size > MOST_CHARACTERS
                if truncated:
                    break
                rows.append(text)
        if truncated and not rows:
            raise Refused("too_large")
    return {"columns": columns, "rows": rows, "truncated": truncated}


def plain(value: object) -> object:
    """Return the value as JSON can hold it; the type of its column tells how to read it back."""
    match value:
        case None | bool() | int():
            return value
        case str():
            if len(value) > MOST_CHARACTERS:
                raise Refused("too_large")
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case list() | tuple():
            return [plain(item) for item in cast("list[object]", value)]
        case dict():
            items = cast("dict[object, object]", value).items()
            return {str(key): plain(item) for key, item in items}
        case _:
            return scalar(value)


def scalar(value: object) -> object:
    """Return dates in ISO form (UTC), durations in microseconds, and the rest as text."""
    match value:
        case datetime.datetime():
            zoned = value.tzinfo is not None
            naive = value.astimezone(datetime.UTC).replace(tzinfo=None) if zoned else value
            return naive.isoformat()
        case datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value // datetime.timedelta(microseconds=1)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case _:
            return str(value)


def main() -> None:
    """Answer the request in the working directory."""
    request = json.loads(Path("request.json").read_text("utf-8"))
    broken: list[str] = []
    try:
        connection = connect(request["tables"], broken)
        answer = run(connection, request["sql"], request["limit"])
        rows = f"[{','.join(answer.pop('rows'))}]"
        text = f'{json.dumps(answer)[:-1]}, "rows": {rows}}}'
    except Refused as error:
        text = json.dumps({"refused": [str(part) for part in error.args]})
    except (duckdb.Error, MemoryError) as error:
        kind, message = type(error).__name__, str(error)[:4000]
        failed = {"kind": kind, "message": message, "broken": broken}
        text = json.dumps({"failed": failed})
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
