import gzip
import hashlib
import io
import json
import os
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainable.dataset import Dataset, check_columns, load, store
from trainable.dataset.archive import Limits
from trainable.errors import DataError, StorageError, TargetError

TABLE = "name,age,city\nbob,3,x\nann,4,y\nzed,5,w\n"


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def load_text(folder: Path, text: str, encoding: str = "utf-8", name: str = "t.csv") -> Dataset:
    return load(write(folder / name, text, encoding))


def columns(dataset: Dataset) -> list[str]:
    return list(dataset.frame.columns)


def only_file(dataset: Dataset) -> dict[str, object]:
    (file,) = dataset.source["files"]
    return file


def round_trip(frame: pd.DataFrame) -> pd.DataFrame:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return pd.read_parquet(buffer)


@contextmanager
def powerless() -> Iterator[None]:
    """Give up root's right to read and write anything."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


# Text


def test_a_plain_csv_is_read_with_types(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, TABLE, name="people.csv")
    assert dataset.name == "people"
    assert columns(dataset) == ["name", "age", "city"]
    assert dataset.frame["age"].tolist() == [3, 4, 5]
    file = only_file(dataset)
    assert (file["format"], file["encoding"], file["delimiter"]) == ("csv", "utf-8", ",")
    assert (file["header"], file["rows"], file["bytes"]) == (True, 3, len(TABLE))
    assert dataset.source["notes"] == []


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"],
)
def test_the_encoding_is_recognised(tmp_path: Path, encoding: str) -> None:
    text = "name,größe\nJosé,1\nÅsa,2\nZoë,3\n"
    dataset = load_text(tmp_path, text, encoding)
    assert columns(dataset) == ["name", "größe"]
    assert dataset.frame["name"].tolist() == ["José", "Åsa", "Zoë"]


def test_bytes_that_windows_1252_lacks_are_read_as_latin_1(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "a,b\n\x81é,1\nx,2\n", "latin-1")
    assert only_file(dataset)["encoding"] == "latin-1"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_recognised(tmp_path: Path, delimiter: str) -> None:
    dataset = load_text(tmp_path, TABLE.replace(",", delimiter))
    assert columns(dataset) == ["name", "age", "city"]
    assert only_file(dataset)["delimiter"] == delimiter


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends_of_all_systems_are_read(tmp_path: Path, newline: str) -> None:
    assert load_text(tmp_path, TABLE.replace("\n", newline)).frame["age"].tolist() == [3, 4, 5]


def test_columns_set_with_blanks_are_read(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "18.0   8   307.0\n15.0   8   350.0\n", name="mpg.data")
    assert dataset.frame["column_3"].tolist() == [307.0, 350.0]


def test_a_tsv_may_hold_commas(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "a\tb\nx, y\t1\nz, w\t2\n", name="t.tsv")
    assert dataset.frame["a"].tolist() == ["x, y", "z, w"]


def test_quoted_cells_may_hold_anything(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, 'a,b\n"x, ""y""\nz",1\n"=1+1",2\n')
    assert dataset.frame["a"].tolist() == ['x, "y"\nz', "=1+1"]


def test_a_decimal_comma_is_recognised(tmp_path: Path) -> None:
    text = "a;b;day\n1,5;2.000,25;01.02.2020\n2,5;3;03.02.2021\n"
    dataset = load_text(tmp_path, text)
    assert dataset.frame["a"].tolist() == [1.5, 2.5]
    assert dataset.frame["b"].tolist() == [2000.25, 3.0]
    assert dataset.frame["day"].tolist() == ["01.02.2020", "03.02.2021"]
    assert only_file(dataset)["decimal"] == ","


def test_a_decimal_point_beside_semicolons_stays_one(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "a;b\n1.5;1,2\n2.5;3,4\n")
    assert dataset.frame["a"].tolist() == [1.5, 2.5]
    assert only_file(dataset)["decimal"] == "."


def test_blanks_behind_delimiters_are_removed(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "39, State-gov, ?\n50, Private, x\n38, Private, y\n")
    assert dataset.frame["column_2"].tolist() == ["State-gov", "Private", "Private"]


def test_a_missing_header_gives_numbered_names_and_a_note(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "1,2.5,a\n2,3.5,b\n4,4,c\n")
    assert columns(dataset) == ["column_1", "column_2", "column_3"]
    assert only_file(dataset)["header"] is False
    assert "no header" in dataset.source["notes"][0]
    assert len(dataset.frame) == 3


def test_a_first_row_whose_cells_come_again_is_no_header(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "p,x,s,n\ne,x,s,y\ne,b,s,w\np,x,y,w\n" * 3)
    assert len(dataset.frame) == 12
    assert only_file(dataset)["header"] is False


@pytest.mark.parametrize("head", ["country,2019,2020", "2018,2019,2020"])
def test_years_may_be_a_header(tmp_path: Path, head: str) -> None:
    dataset = load_text(tmp_path, f"{head}\n1,5,6\n2,7,8\n")
    assert columns(dataset) == head.split(",")


def test_names_are_made_unique_and_blank_ones_numbered(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "a,a,,a.1\n1,2,3,4\n5,6,7,8\n")
    assert columns(dataset) == ["a", "a.2", "column_3", "a.1"]
    assert len(dataset.source["notes"]) == 2


def test_odd_names_are_kept(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, 'char_freq_%21,"a/b, c",😀,"x""y"\n1,2,3,4\n5,6,7,8\n')
    assert columns(dataset) == ["char_freq_%21", "a/b, c", "😀", 'x"y']


@pytest.mark.parametrize("first", ["", "Unnamed: 0"])
def test_a_column_that_counts_is_kept_and_noted(tmp_path: Path, first: str) -> None:
    dataset = load_text(tmp_path, f"{first},a,b\n0,1,2\n1,3,4\n2,5,6\n")
    assert columns(dataset)[0] == (first or "column_1")
    assert "only counts the rows" in dataset.source["notes"][-1]


def test_row_names_without_a_heading_do_not_shift_the_columns(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "a,b,c\nx,1,2,3\ny,4,5,6\n")
    assert dataset.frame["column_1"].tolist() == ["x", "y"]
    assert dataset.frame["c"].tolist() == [3, 6]


def test_a_delimiter_at_the_end_of_lines_does_not_shift_the_columns(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "a,b,c\n1,2,3,\n4,5,6,\n")
    assert columns(dataset) == ["a", "b", "c"]
    assert dataset.frame["a"].tolist() == [1, 4]


def test_lines_before_the_table_are_left_out_and_counted(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, f"Report of sales\nMade 2020-01-01\n\n{TABLE}")
    assert columns(dataset) == ["name", "age", "city"]
    assert dataset.source["notes"] == ["Left out 3 lines before the table."]


def test_a_few_lines_with_too_many_cells_are_left_out_and_named(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "a,b,c\n" + "1,2,3\n" * 300 + "1,2,3,4\n")
    assert len(dataset.frame) == 300
    assert "line 302" in dataset.source["notes"][0]


def test_many_lines_with_too_many_cells_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="20 lines with more cells"):
        load_text(tmp_path, "a,b,c\n" + "1,2,3\n" * 300 + "1,2,3,4\n" * 20)


def test_repeated_headers_are_left_out(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, TABLE + TABLE)
    assert dataset.frame["age"].tolist() == [3, 4, 5, 3, 4, 5]


def test_what_spreadsheets_leave_behind_is_left_out(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "a,b,,\n1,2,,\n,,,\n3,4,,\n")
    assert columns(dataset) == ["a", "b"]
    assert len(dataset.frame) == 2


def test_dates_are_not_parsed(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "d,v\n2020-01-01,1\n2020-01-02,2\n")
    assert dataset.frame["d"].tolist() == ["2020-01-01", "2020-01-02"]


def test_a_column_of_mixed_kinds_becomes_text(tmp_path: Path) -> None:
    rows = "".join(f"{k},{k}\n" for k in range(50))
    dataset = load_text(tmp_path, f"a,b\n{rows}x,1\n")
    assert dataset.frame["a"].tolist()[-2:] == ["49", "x"]


CELLS = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=8),
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=8, max_size=12),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_frames_come_back_from_csv_row_for_row(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[object, ...]],
    delimiter: str,
    encoding: str,
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    keys = [f"key-{k}" for k in range(len(rows))]
    frame = pd.DataFrame(rows, columns=["first col", "second", "third"]).assign(key=keys)
    frame.to_csv(path, index=False, sep=delimiter, encoding=encoding, quoting=2)
    dataset = load(path)
    assert columns(dataset) == list(frame.columns)
    assert dataset.frame["key"].tolist() == keys


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=0, max_size=300), ending=st.sampled_from(
    [".csv", ".json", ".jsonl", ".parquet", ".xlsx", ".zip", ".gz", ".csv.gz", ".txt"]
))  # fmt: skip
def test_any_bytes_are_read_or_refused_in_our_words(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, ending: str
) -> None:
    path = tmp_path_factory.mktemp("bytes") / f"t{ending}"
    path.write_bytes(data)
    try:
        load(path)
    except DataError as error:
        assert error.remedy
        assert "\n" not in str(error)


# Other formats


def test_parquet_is_read_as_it_is(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "t": pd.to_datetime(["2020-01-01", "2020-01-02"], utc=True)})
    frame.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(load(tmp_path / "t.parquet").frame, frame)


@pytest.mark.parametrize(
    "value",
    [
        [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
        {"a": [1, 2], "b": ["x", "y"]},
        {"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}},
        {"columns": ["a", "b"], "index": [0, 1], "data": [[1, "x"], [2, "y"]]},
        {"count": 2, "results": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]},
        [["a", "b"], [1, "x"], [2, "y"]],
    ],
)
def test_json_tables_of_every_layout_are_read(tmp_path: Path, value: object) -> None:
    frame = load_text(tmp_path, json.dumps(value), name="t.json").frame
    assert frame.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}


@pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson", "t.json"])
def test_json_lines_are_read(tmp_path: Path, name: str) -> None:
    dataset = load_text(tmp_path, '{"a": 1, "b": [1, {"c": "é"}]}\n\n{"a": 2}\n', name=name)
    assert dataset.frame["b"].iloc[0] == '[1, {"c": "é"}]'
    assert dataset.frame["b"].isna().tolist() == [False, True]
    assert only_file(dataset)["format"] == "jsonl"


def test_a_broken_json_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Line 2"):
        load_text(tmp_path, '{"a": 1, "b": 2}\n{"a": \n', name="t.jsonl")


def test_half_a_surrogate_pair_does_not_break_storing(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, '[{"a": "\\ud800x", "\\udc00": 1}]', name="t.json")
    assert dataset.frame.iloc[0, 0] == "?x"
    store(dataset, tmp_path / "stored")


def test_the_first_sheet_that_holds_something_is_read(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "t.xlsx") as writer:
        pd.DataFrame().to_excel(writer, sheet_name="Cover")
        pd.DataFrame({"a": [1, 2], "b": ["x", ""]}).to_excel(writer, sheet_name="Data", index=False)
        pd.DataFrame({"c": [1]}).to_excel(writer, sheet_name="More", index=False)
    dataset = load(tmp_path / "t.xlsx")
    assert dataset.frame["a"].tolist() == [1, 2]
    assert dataset.frame["b"].isna().tolist() == [False, True]
    assert only_file(dataset)["sheet"] == "Data"
    assert "'More'" in dataset.source["notes"][0]


# Archives, folders, several files


def test_a_gz_is_read_and_kept_packed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(TABLE.encode()))
    dataset = load(path)
    assert dataset.name == "t"
    assert dataset.frame["age"].tolist() == [3, 4, 5]
    store(dataset, tmp_path / "stored")
    assert (tmp_path / "stored/source/t.csv.gz").read_bytes() == path.read_bytes()


def make_zip(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_a_zip_of_several_files_is_put_together(tmp_path: Path) -> None:
    members = {"b.csv": TABLE, "a.csv": TABLE, "notes.md": "hi", "__MACOSX/._a.csv": "junk"}
    dataset = load(make_zip(tmp_path / "t.zip", members))
    assert dataset.frame["source_file"].tolist() == ["t.zip/a.csv"] * 3 + ["t.zip/b.csv"] * 3
    assert any("notes.md" in note for note in dataset.source["notes"])


def test_a_member_cannot_leave_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    load(make_zip(folder / "t.zip", {"../../evil.csv": TABLE, "/tmp/evil2.csv": TABLE}))
    assert [path.name for path in tmp_path.rglob("*evil*")] == []
    assert not Path("/tmp/evil2.csv").exists()


@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_a_bomb_is_refused(tmp_path: Path, kind: str) -> None:
    text = "a,b\n" + "0,0\n" * 500_000
    path = tmp_path / f"t.csv.{kind}"
    if kind == "gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        make_zip(path, {"t.csv": text})
    limits = Limits(largest=1 << 40, free=1 << 16, ratio=100)
    with pytest.raises(DataError, match="far more than its size"):
        load(path, limits=limits)
    with pytest.raises(DataError, match="far more than its size"):
        load(path, limits=Limits(largest=1 << 20))


def test_a_truncated_gz_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(TABLE.encode())[:-12])
    with pytest.raises(DataError, match="not a complete archive"):
        load(path)


def test_a_folder_is_read_in_sorted_order(tmp_path: Path) -> None:
    write(tmp_path / "white.csv", "a,b\n3,4\n5,6\n")
    write(tmp_path / "red.csv", "b,a\n1,2\n")
    write(tmp_path / ".hidden.csv", "x,y\n1,2\n")
    write(tmp_path / "readme.md", "hi")
    dataset = load(tmp_path)
    assert dataset.frame["a"].tolist() == [2, 3, 5]
    assert dataset.frame["source_file"].tolist() == ["red.csv", "white.csv", "white.csv"]
    assert dataset.name == tmp_path.name
    assert any("readme.md" in note for note in dataset.source["notes"])


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = []
    for year in ("2019", "2020"):
        (tmp_path / year).mkdir()
        paths.append(write(tmp_path / year / "t.csv", TABLE))
    dataset = load(paths)
    assert dataset.frame["source_file"].unique().tolist() == ["2019/t.csv", "2020/t.csv"]
    store(dataset, tmp_path / "stored")
    assert (tmp_path / "stored/source/2020/t.csv").read_text() == TABLE


def test_a_train_and_test_pair_is_recognised(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "id,x,y\n1,2,a\n3,4,b\n")
    write(tmp_path / "test.csv", "id,x\n5,6\n7,8\n")
    with pytest.raises(DataError, match=r"'test.csv' lacks 'y'.*pass 'train.csv' alone"):
        load(tmp_path)


def test_tables_with_a_common_key_get_a_join_proposed() -> None:
    people = pd.DataFrame({"id": [1, 2], "age": [3, 4]})
    orders = pd.DataFrame({"id": [1, 1], "sum": [3, 4]})
    with pytest.raises(DataError, match=r"'people' and 'orders'.*join them on 'id'"):
        load({"people": people, "orders": orders})


def test_frames_of_one_schema_are_put_together() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    dataset = load({"one": frame, "two": frame})
    assert dataset.frame["source_file"].tolist() == ["one", "one", "two", "two"]
    assert load({"one": frame}).name == "one"


# DataFrames


def test_every_kind_of_column_survives_parquet() -> None:
    frame = pd.DataFrame(
        {
            1: [1, 2, 3],
            "a": pd.Categorical(["x", "y", None]),
            "b": pd.array([1, None, 3], dtype="Int64"),
            "c": pd.array([True, None, False], dtype="boolean"),
            "d": [1, "x", None],
            "e": [[1], {"k": np.int64(2)}, None],
            "f": pd.date_range("2020", periods=3, tz="Europe/Berlin"),
            "g": [b"x", b"\xff", None],
            "h": pd.period_range("2020", periods=3, freq="M"),
            "i": [date(2020, 1, 1), date(2020, 1, 2), None],
            "j": [2**70, 1, 2],
            "k": [None, None, None],
            "l": pd.array([1.5, 2, 3], dtype="float32[pyarrow]"),
            "m": pd.to_timedelta([1, 2, 3], unit="s"),
            "n": [1 + 2j, 3, 4],
            "o": [np.inf, -np.inf, np.nan],
            "p": np.array([1, 2, 3], dtype="float16"),
            "q": [datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 1), None],  # noqa: DTZ001
            "r": pd.arrays.SparseArray([0, 0, 1]),
            "s": pd.array(["2020-01-01", None, "x"], dtype="string"),
        }
    )
    frame.attrs["junk"] = object()
    dataset = load(frame)
    pd.testing.assert_frame_equal(round_trip(dataset.frame), dataset.frame)
    assert columns(dataset)[0] == "1"
    assert dataset.frame["a"].tolist()[:2] == ["x", "y"]
    assert dataset.frame["b"].dtype == "float64"
    assert dataset.frame["c"].tolist() == [True, None, False]
    assert dataset.frame["d"].tolist()[:2] == ["1", "x"]
    assert dataset.frame["e"].tolist()[:2] == ["[1]", '{"k": 2}']
    assert dataset.frame["j"].iloc[0] == str(2**70)
    assert str(dataset.frame["f"].dtype).endswith("Europe/Berlin]")
    assert dataset.source["files"][0]["format"] == "dataframe"


def test_an_index_that_says_something_becomes_a_column() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key"))
    assert columns(load(frame)) == ["key", "a"]
    assert columns(load(pd.DataFrame({"a": [1, 2], "b": [3, 4]}, index=[7, 9]))) == ["a", "b"]


def test_the_users_frame_is_left_alone() -> None:
    frame = pd.DataFrame({1: ["x", "y"], "b": pd.Categorical(["u", "v"])})
    before = frame.copy(deep=True)
    load(frame)
    pd.testing.assert_frame_equal(frame, before)


# What cannot be used


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b" \n\n", "is empty"),
        ("t.csv", b"a\n1\n2\n", "only one column"),
        ("t.csv", b"a,b\n", "no rows"),
        ("t.csv", bytes(range(256)) * 20, "not text"),
        ("t.csv", b'a,b\n"x,1\ny,2\n', "quotation mark"),
        ("t.csv", b"PK\x03\x04rest", "Excel file or a zip"),
        ("t.csv", b"PAR1rest", "a parquet file"),
        ("t.parquet", b"PAR1rest", "parquet"),
        ("t.xlsx", b"not a workbook", "workbook"),
        ("t.zip", b"not a zip", "archive"),
        ("t.json", b"{}", "no table"),
        ("t.json", b"[]", "no rows"),
        ("t.json", b'{"a": [1, 2], "b": [1]}', "equally long"),
        ("t.json", b"[" * 100_000, "t.json"),
        ("t.json", b'{"a": 1,}', "not valid JSON"),
        ("t.pdf", b"%PDF", "format that cannot be read"),
    ],
)
def test_files_without_a_table_are_refused_in_one_sentence(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        load(tmp_path / name)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_answered_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "titanic.csv", TABLE)
    with pytest.raises(DataError, match=r"Did you mean 'titanic\.csv'"):
        load(tmp_path / "titanc.csv")
    with pytest.raises(DataError, match="There is no folder"):
        load(tmp_path / "nowhere" / "t.csv")


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "readme.md", "hi")
    with pytest.raises(DataError, match="no data files"):
        load(tmp_path)


def test_addresses_have_to_be_downloaded_first() -> None:
    with pytest.raises(DataError, match=r"S3 address.*Download"):
        load("s3://bucket/t.csv")
    with pytest.raises(DataError, match=r"web address.*Download"):
        load("https://example.org/t.csv")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", TABLE)
    path.chmod(0)
    with powerless(), pytest.raises(DataError, match="may not be read"):
        load(path)


@pytest.mark.parametrize("data", ["", [], b"x", 5, {}, {"a": 1}, [5], "/dev/zero", "a\0b"])
def test_what_is_no_data_is_refused(data: object) -> None:
    with pytest.raises(DataError) as caught:
        load(data)  # type: ignore[arg-type]
    assert caught.value.remedy


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", TABLE)
    with pytest.raises(DataError, match="passed twice"):
        load([path, str(path)])


def test_an_absent_column_is_answered_with_the_nearest(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, TABLE)
    check_columns(columns(dataset), {"target": "age", "group": None})
    with pytest.raises(TargetError, match="Did you mean 'age'") as caught:
        check_columns(columns(dataset), {"group": "Agee"})
    assert caught.value.code == "unknown_group"
    with pytest.raises(TargetError, match="The columns are 'name', 'age' and 'city'"):
        check_columns(columns(dataset), {"target": "zzzzzz"})


# Storing


def test_a_dataset_is_stored_as_sandboxes_read_it(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", TABLE)
    dataset = load(path)
    store(dataset, tmp_path / "volume" / "d1")
    store(load(path), tmp_path / "volume" / "d2")
    one, two = tmp_path / "volume" / "d1", tmp_path / "volume" / "d2"
    pd.testing.assert_frame_equal(pd.read_parquet(one / "raw.parquet"), dataset.frame)
    assert json.loads((one / "dataset.json").read_text()) == dataset.source
    assert (one / "source" / "t.csv").read_text() == TABLE
    for name in ("raw.parquet", "dataset.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert sorted(entry.name for entry in one.parent.iterdir()) == ["d1", "d2"]


def test_the_hash_is_that_of_the_stored_table(tmp_path: Path) -> None:
    dataset = load(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    store(dataset, tmp_path / "d")
    data = (tmp_path / "d" / "raw.parquet").read_bytes()
    assert hashlib.sha256(data).hexdigest() == dataset.source["raw_sha256"]
    assert not (tmp_path / "d" / "source").exists()


def test_a_file_that_changed_meanwhile_is_not_stored(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", TABLE)
    dataset = load(path)
    write(path, TABLE + "new,1,z\n")
    with pytest.raises(DataError, match="changed"):
        store(dataset, tmp_path / "volume" / "d")
    path.unlink()
    with pytest.raises(DataError, match="no longer there"):
        store(dataset, tmp_path / "volume" / "d")
    assert list((tmp_path / "volume").iterdir()) == []


def test_nothing_is_left_where_it_cannot_be_stored(tmp_path: Path) -> None:
    dataset = load(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    taken = tmp_path / "d"
    taken.mkdir()
    write(taken / "keep", "x")
    with pytest.raises(StorageError, match="there already"):
        store(dataset, taken)
    with pytest.raises(StorageError, match="there already"):
        store(dataset, taken / "keep" / "d")
    assert [path.name for path in tmp_path.rglob("*")] == ["d", "keep"]
    (tmp_path / "locked").mkdir(mode=0o555)
    with powerless(), pytest.raises(StorageError, match="TRAINABLE_HOME"):
        store(dataset, tmp_path / "locked" / "d")


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    dataset = load(pd.DataFrame({"a": range(100_000), "b": "x"}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="disk is full"):
            store(dataset, tmp_path / "volume" / "d")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "volume").iterdir()) == []
