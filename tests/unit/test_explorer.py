from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainable.errors import QueryError
from trainable.explorer import Explorer
from trainable.sandbox.local import LocalSandbox

RAW = pd.DataFrame(
    {
        "id": range(1, 13),
        "sex": ["male", "female", None] * 4,
        "age": [20.0, np.nan, 40.0] * 4,
        "load": ["call back"] * 12,
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "it's [1] data"
    where.mkdir()
    RAW.to_parquet(where / "raw.parquet")
    return where


@pytest.fixture
def explorer(folder: Path, tmp_path: Path) -> Explorer:
    return explore(folder, tmp_path, ["raw", "train", "val", "test"])


@pytest.fixture
def prepared(folder: Path, explorer: Explorer) -> Explorer:
    RAW[:8].to_parquet(folder / "train.parquet")
    RAW[8:10].assign(extra=1).to_parquet(folder / "val.parquet")
    RAW[10:].to_parquet(folder / "test.parquet")
    return explorer


def explore(folder: Path, tmp_path: Path, names: Sequence[str]) -> Explorer:
    tables = {name: folder / f"{name}.parquet" for name in names}
    return Explorer(LocalSandbox(), tables, tmp_path / "work")


async def test_rows_come_back_as_they_were_stored(explorer: Explorer, tmp_path: Path) -> None:
    frame = await explorer.query("FROM raw")
    pd.testing.assert_frame_equal(frame, RAW, check_dtype=False)
    assert frame.attrs == {"truncated": False}
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM raw WHERE load = 'call back'",
        "WITH t AS (FROM raw) SELECT count(*) FROM t;",
        "VALUES (1), (2)",
        "PIVOT raw ON sex USING avg(age) GROUP BY load; ",
        "PIVOT raw ON sex USING avg(age) -- why not",
        "DESCRIBE raw",
        "SUMMARIZE raw",
        "SHOW TABLES",
        "EXPLAIN FROM raw",
        "/* a comment */ TABLE raw",
        'SELECT "load", 1 AS credit_limit FROM raw',
    ],
)
async def test_everything_that_reads_may_run(explorer: Explorer, sql: str) -> None:
    assert len(await explorer.query(sql)) > 0


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("", "no_statement"),
        ("-- only a comment", "no_statement"),
        ("SELECT 1; SELECT 2", "several_statements"),
        ("PIVOT raw ON sex) x; DROP VIEW raw; FROM (PIVOT raw ON sex", "syntax"),
        ("DROP VIEW raw", "not_a_select"),
        ("CREATE TABLE t AS FROM raw", "not_a_select"),
        ("CREATE TABLE t AS PIVOT raw ON sex USING avg(age)", "not_a_select"),
        ("COPY raw TO 'out.csv'", "not_a_select"),
        ("ATTACH 'x.db'", "not_a_select"),
        ("SET threads = 8", "not_a_select"),
        ("INSTALL httpfs", "not_a_select"),
        ("PRAGMA database_list", "not_a_select"),
        ("FROM read_csv('/etc/passwd')", "not_allowed"),
        ("FROM read_text('/etc/passwd')", "not_allowed"),
        ("FROM glob('/etc/*')", "not_allowed"),
        ("FROM '/etc/passwd'", "unknown_table"),
        ("FROM request", "unknown_table"),
        ("SELECT 1 +", "syntax"),
        ("SELECT * FROM raw WHERE id = 'x'", "wrong_type"),
        ("SELECT nosuch(id) FROM raw", "query_failed"),
        ("SELECT '" + "x" * 66_000 + "'", "too_long"),
        ("SELECT repeat('x', 20000000)", "too_large"),
        ("SELECT list(range) FROM range(1000000000)", "memory_limit"),
    ],
)
async def test_anything_else_is_refused_with_a_reason(
    explorer: Explorer, sql: str, code: str
) -> None:
    with pytest.raises(QueryError) as caught:
        await explorer.query(sql, timeout=60)
    assert caught.value.code == code
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


async def test_a_query_past_its_time_is_stopped(explorer: Explorer) -> None:
    sql = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range % 7 = b.range"
    with pytest.raises(QueryError, match=r"longer than 0\.5 seconds"):
        await explorer.query(sql, timeout=0.5)


async def test_rows_past_the_limit_are_left_out_and_said_so(explorer: Explorer) -> None:
    cut = await explorer.query("SELECT id AS credit_limit FROM raw", limit=5)
    assert len(cut) == 5
    assert cut.attrs["truncated"] is True
    whole = await explorer.query("FROM raw", limit=12)
    assert (len(whole), whole.attrs["truncated"]) == (12, False)


@pytest.mark.parametrize(("limit", "timeout"), [(0, 1.0), (10**9, 1.0), (1, 0.0), (1, 1e9)])
async def test_limits_that_make_no_sense_are_refused(
    explorer: Explorer, limit: int, timeout: float
) -> None:
    with pytest.raises(QueryError, match="limit cannot be"):
        await explorer.query("FROM raw", limit=limit, timeout=timeout)


async def test_the_splits_are_put_together_by_name(prepared: Explorer) -> None:
    frame = await prepared.query(
        "SELECT split, count(*) AS n, sum(extra) AS extra FROM all_data GROUP BY ALL ORDER BY n"
    )
    assert dict(zip(frame["split"], frame["n"], strict=True)) == {"train": 8, "val": 2, "test": 2}
    assert frame["extra"].sum() == 2


async def test_a_column_called_split_stays_itself(folder: Path, tmp_path: Path) -> None:
    RAW.assign(Split="mine").to_parquet(folder / "train.parquet")
    frame = await explore(folder, tmp_path, ["train"]).query("FROM all_data")
    assert list(frame.columns) == [*RAW.columns, "Split", "_split"]


async def test_a_misspelled_column_is_answered_with_the_nearest(explorer: Explorer) -> None:
    with pytest.raises(QueryError, match=r"no column 'aeg'\. Did you mean 'age'\?"):
        await explorer.query("SELECT aeg FROM raw")


async def test_a_misspelled_table_is_answered_with_the_nearest(prepared: Explorer) -> None:
    with pytest.raises(QueryError, match="Did you mean 'train'"):
        await prepared.query("FROM trian")


async def test_before_prep_the_tables_that_exist_are_named(explorer: Explorer) -> None:
    with pytest.raises(QueryError, match="only table is raw; train, val and test come with Prep"):
        await explorer.query("FROM train")


async def test_a_damaged_file_spoils_only_its_own_table(folder: Path, explorer: Explorer) -> None:
    (folder / "train.parquet").write_bytes(b"PAR1 not really")
    assert len(await explorer.query("FROM raw")) == 12
    with pytest.raises(QueryError, match="'train' is damaged"):
        await explorer.query("FROM train")


async def test_a_csv_can_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "columns.csv").write_text("name,missing\nage,2\n")
    explorer = Explorer(LocalSandbox(), {"file": tmp_path / "columns.csv"}, tmp_path / "work")
    assert (await explorer.query("FROM file")).to_dict("list") == {"name": ["age"], "missing": [2]}


async def test_every_type_comes_back_as_its_pandas_counterpart(explorer: Explorer) -> None:
    frame = await explorer.query(
        """SELECT TIMESTAMPTZ '2020-01-01 02:00:00+02' AS zoned, DATE '2020-01-02' AS day,
        TIMESTAMP '2020-01-01 00:00:00.5' AS moment, INTERVAL 1 DAY AS span, TIME '10:00' AS clock,
        1.5::DECIMAL(9, 2) AS price, NULL::INT AS nothing, 'inf'::DOUBLE AS inf, [1, NULL] AS list,
        {'a': 'nan'::DOUBLE} AS struct, true AS yes, 2::HUGEINT ** 100 AS huge,
        'é\U0001f600' AS text,
        '\\xff'::BLOB AS bytes, 9007199254740993 AS exact, 1 AS twice, 2 AS twice,
        DATE '0044-03-15 (BC)' AS long_ago"""
    )
    row = frame.iloc[0]
    assert row["zoned"] == pd.Timestamp("2020-01-01", tz="UTC")
    assert row["day"] == pd.Timestamp("2020-01-02")
    assert row["moment"] == pd.Timestamp("2020-01-01 00:00:00.5")
    assert row["span"] == pd.Timedelta(days=1)
    assert (row["clock"], row["price"], row["inf"]) == ("10:00:00", 1.5, np.inf)
    assert (row["list"], row["struct"]) == ([1, None], {"a": "nan"})
    assert (row["yes"], row["text"], row["bytes"]) == (True, "é\U0001f600", "\\xff")
    assert (row["huge"], row["exact"]) == (2.0**100, 9007199254740993)
    assert (row["twice"], row["twice.1"]) == (1, 2)
    assert pd.isna(row["nothing"])
    assert str(frame["nothing"].dtype) == "Int64"


async def test_an_empty_result_keeps_its_columns(explorer: Explorer) -> None:
    frame = await explorer.query("FROM raw WHERE false")
    assert list(frame.columns) == list(RAW.columns)
    assert frame["age"].dtype == "float64"
