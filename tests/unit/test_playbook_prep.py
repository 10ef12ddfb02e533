"""Prep by the playbook, and the check of what any agent's Prep delivers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

from tests.support.playbook import ScriptFailedError, make_dataset, run_check, run_stage

NAMES = ("train", "val", "test")


def people(rows: int = 400) -> pd.DataFrame:
    """Return a table with one column of each kind, odd names and odd cells."""
    random = np.random.default_rng(3)
    size = random.normal(size=rows)
    city = random.choice([f"city {number}" for number in range(25)], rows)
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 9000, rows), unit="h")
    words = ["red", "green", "blue", "car", "dog", "tree"]
    frame = pd.DataFrame(
        {
            "number": range(rows),
            "size / m": size,
            "pay": np.where(random.random(rows) < 0.2, np.nan, random.exponential(3, rows) ** 2),
            "price": [f"{value:.2f}".replace(".", ",") for value in random.normal(90, 9, rows)],
            "code": np.where(random.random(rows) < 0.1, -999, random.integers(1, 50, rows)),
            "city": city,
            "sex|`x`": random.choice(["m", "f"], rows),
            "grade": random.choice(["low", "mid", "high", "?"], rows),
            "ok": random.choice([True, False], rows),
            "start": start.astype(str),
            "end": (start + pd.to_timedelta(random.integers(1, 99, rows), unit="min")).astype(str),
            "note": [" ".join(random.choice(words, 5)) + f" {row}" for row in range(rows)],
            "leak": "a",
            "fixed": 1,
        }
    )
    chance = size + (city < "city 15") + random.normal(size=rows)
    frame["bought"] = np.where(chance > 0.5, "yes", "no")
    frame["leak"] = frame["bought"] + "!"
    return frame


ROLES = {
    "number": "id",
    "size / m": "numeric",
    "pay": "numeric",
    "price": "numeric_text",
    "code": "integer",
    "city": "categorical",
    "sex|`x`": "categorical",
    "grade": "categorical",
    "ok": "boolean",
    "start": "datetime",
    "end": "datetime",
    "note": "text",
    "leak": "categorical",
    "fixed": "constant",
}


def write_profile(root: Path, frame: pd.DataFrame, target: str, task: str, **more: Any) -> None:
    columns = [
        {
            "name": name,
            "role": "target" if name == target else ROLES.get(name, "numeric"),
            "null_spellings": {"?": 9} if name == "grade" else {},
            "sentinels": {"-999": 40} if name == "code" else {},
            "decimal_comma": name == "price",
            "datetime_format": None,
            "copy_of": None,
        }
        for name in frame.columns
    ]
    profile = {
        "columns": columns,
        "target": {"name": target, "task": task},
        "leaks": [],
        "structure": {},
        "drop": [],
    }
    if "leak" in frame:
        profile["drop"] = [
            {"column": "leak", "reason": "copies the target", "code": "target_proxy"}
        ]
    folder = root / "eda" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_text(json.dumps(profile | more), "utf-8")


def prepare(
    root: Path, frame: pd.DataFrame, target: str, task: str = "classification", **params: Any
) -> Path:
    make_dataset(frame, root)
    write_profile(root, frame, target, task, **params.pop("profile", {}))
    run_stage("prep", root, {"target": target, "task": task, **params})
    assert (root / "logs" / "prep.err").read_text() == ""
    return root / "prep"


def read_json(folder: Path, name: str) -> Any:
    return json.loads((folder / "data" / f"{name}.json").read_text("utf-8"))


def splits_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "data" / "splits.parquet")


def codes(findings: dict[str, list[dict[str, Any]]], level: str) -> set[str]:
    return {finding["code"] for finding in findings[level]}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("people"), people(), "bought")


@pytest.fixture
def pipeline(done: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(done / "data"))
    sys.modules.pop("prep_pipeline", None)
    return joblib.load(done / "data" / "prep_pipeline.pkl")


@pytest.fixture
def tampered(done: Path, tmp_path: Path) -> Path:
    """A copy of a finished Prep, to be spoiled."""
    for name in ("dataset", "eda", "prep"):
        shutil.copytree(done.parent / name, tmp_path / name)
    return tmp_path / "prep"


def respoil(folder: Path, name: str, frame: pd.DataFrame) -> None:
    frame.to_parquet(folder / "data" / f"{name}.parquet")


def test_the_check_has_no_objection_to_the_playbook(done: Path) -> None:
    findings = run_check("prep", done.parent)
    assert findings["errors"] == []
    assert {"row_overlap", "pipeline_differs", "target_values"} <= codes(findings, "passed")


def test_the_split_is_70_15_15_and_stratified(done: Path) -> None:
    metadata = read_json(done, "metadata")
    sizes = [metadata["splits"][name]["rows"] for name in NAMES]
    assert sizes == [280, 60, 60]
    shares = [
        metadata["splits"][name]["classes"]["yes"] / size
        for name, size in zip(NAMES, sizes, strict=True)
    ]
    assert max(shares) - min(shares) < 0.02


def test_every_raw_row_is_accounted_for_once(done: Path) -> None:
    splits = splits_of(done)
    assert splits["row_id"].tolist() == list(range(400))
    for name in NAMES:
        assert sorted(splits.loc[splits["split"] == name, "position"]) == list(
            range((splits["split"] == name).sum())
        )


def test_columns_are_dropped_with_a_reason_and_a_decision(done: Path) -> None:
    dropped = read_json(done, "metadata")["dropped_columns"]
    assert set(dropped) == {"number", "leak", "fixed"}
    assert dropped["leak"].startswith("target_proxy")
    decisions = read_json(done, "decisions")
    identities = [row["id"] for row in decisions]
    assert {"split.strategy", "drop.leak", "impute.pay", "sentinel.code"} <= set(identities)
    assert len(set(identities)) == len(identities)
    keys = {"id", "what", "why", "evidence", "alternatives", "choice"}
    assert all(row.keys() == keys for row in decisions)


def test_features_are_named_for_what_they_hold(done: Path) -> None:
    features = set(read_json(done, "metadata")["features"])
    wanted = {"size / m", "pay_log", "price", "sex|`x`=m", "ok", "city_target_mean"}
    wanted |= {"city_frequency", "start_hour", "start_to_end_minutes", "note~red", "note_length"}
    assert wanted <= features
    assert "grade=?" not in features
    assert not any(set(name) & set('[]{}":,<>') for name in features)


def test_train_holds_the_cross_fitted_encoding_and_test_the_plain_one(
    done: Path, pipeline: Any
) -> None:
    raw = people()
    rows = np.flatnonzero(splits_of(done)["split"] == "train")
    delivered = pd.read_parquet(done / "data" / "train.parquet")
    plain = pipeline.transform(raw.iloc[rows].drop(columns="bought")).reset_index(drop=True)
    assert not np.allclose(plain["city_target_mean"], delivered["city_target_mean"])
    others = [name for name in plain if not name.endswith("_target_mean")]
    np.testing.assert_allclose(plain[others], delivered[others], rtol=1e-9, atol=1e-12)


def test_a_clone_fitted_on_the_train_rows_gives_the_delivered_files(
    done: Path, pipeline: Any
) -> None:
    from sklearn.base import clone

    raw, splits = people(), splits_of(done)
    parts = {name: raw.iloc[np.flatnonzero(splits["split"] == name)] for name in NAMES}
    again = clone(pipeline)
    made = again.fit_transform(parts["train"].drop(columns="bought"), parts["train"]["bought"])
    test = again.transform(parts["test"])
    for name, frame in (("train", made), ("test", test)):
        file = pd.read_parquet(done / "data" / f"{name}.parquet").drop(columns="bought")
        np.testing.assert_allclose(frame, file, rtol=1e-9, atol=1e-12)


def test_one_row_none_and_other_column_orders_are_fine(pipeline: Any) -> None:
    raw = people().drop(columns="bought")
    whole = pipeline.transform(raw)
    one = pipeline.transform(raw.iloc[[7]])
    np.testing.assert_allclose(one, whole.iloc[[7]], rtol=1e-9)
    assert pipeline.transform(raw.iloc[:0]).shape == (0, whole.shape[1])
    shuffled = raw[raw.columns[::-1]].assign(extra=1)
    pd.testing.assert_frame_equal(pipeline.transform(shuffled), whole)


def test_unseen_and_missing_cells_become_numbers(pipeline: Any) -> None:
    raw = people().drop(columns="bought").head(3).astype(object)
    raw.iloc[0] = None
    raw.iloc[1] = "never seen"
    raw["pay"] = [np.inf, "12", None]
    made = pipeline.transform(raw)
    assert made.notna().all(axis=None)
    assert np.isfinite(made.to_numpy()).all()


def test_types_that_a_csv_reader_changes_do_not_matter(pipeline: Any) -> None:
    raw = people().drop(columns="bought")
    as_text = (
        raw.astype(object)
        .where(raw.notna(), None)
        .map(lambda cell: None if cell is None else str(cell))
    )
    np.testing.assert_allclose(pipeline.transform(as_text), pipeline.transform(raw), rtol=1e-9)


def test_missing_columns_are_named(pipeline: Any) -> None:
    with pytest.raises(ValueError, match="'city'"):
        pipeline.transform(people().drop(columns="city"))


def test_the_pipeline_loads_with_the_file_beside_it_only(done: Path) -> None:
    code = "import joblib, prep_pipeline; print(type(joblib.load('prep_pipeline.pkl')).__name__)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=done / "data", capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "Pipeline"


def test_two_runs_write_the_same_bytes(done: Path, tmp_path: Path) -> None:
    again = prepare(tmp_path, people(), "bought")
    found = [path for path in done.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    files = [path.relative_to(done) for path in found]
    assert len(files) > 15
    differing = [
        str(path)
        for path in files
        if (done / path).read_bytes() != (again / path).read_bytes()
        and path.name != "run_info.json"
    ]
    assert differing == []


def test_the_report_has_its_sections_and_figures_exist(done: Path) -> None:
    report = (done / "report.md").read_text("utf-8")
    heads = [line[3:] for line in report.splitlines() if line.startswith("## ")]
    assert heads[:3] == ["Verdict", "What was decided", "Splits"]
    assert {"Columns dropped and why", "Features", "Checks", "Limits", "Method"} <= set(heads)
    figures = list((done / "figures").glob("*.png"))
    assert 3 <= len(figures) <= 5
    assert max(path.stat().st_size for path in figures) < 150_000


def test_identical_rows_stay_in_one_split_and_leave_train_only(tmp_path: Path) -> None:
    frame = people(300).drop(columns=["number", "note"])
    frame = pd.concat([frame, frame.head(90)], ignore_index=True)
    folder = prepare(tmp_path, frame, "bought")
    splits = splits_of(folder)
    twins = splits["split"].to_numpy()[:90], splits["split"].to_numpy()[300:]
    held_out = np.isin(twins[0], ["val", "test"])
    assert (twins[0] == twins[1])[held_out].all()
    assert set(twins[1][~held_out]) == {"dropped"}
    assigned = splits["split"].where(splits["split"] != "dropped", "train").value_counts()
    assert abs(assigned["val"] - 58.5) <= 1.5
    assert abs(assigned["test"] - 58.5) <= 1.5
    assert codes(run_check("prep", tmp_path), "errors") == set()


def test_whole_groups_stay_together(tmp_path: Path) -> None:
    frame = people().assign(team=np.arange(400) // 9)
    folder = prepare(tmp_path, frame, "bought", group="team")
    assert read_json(folder, "metadata")["split_strategy"] == "group"
    assert frame.groupby("team")["bought"].size().max() == 9
    places = splits_of(folder)["split"].groupby(frame["team"]).nunique()
    assert places.max() == 1
    assert "team" in read_json(folder, "metadata")["dropped_columns"]
    assert "group_overlap" in codes(run_check("prep", tmp_path), "passed")


def test_a_named_time_splits_forward(tmp_path: Path) -> None:
    folder = prepare(tmp_path, people(), "bought", time="start")
    splits, times = splits_of(folder), pd.to_datetime(people()["start"])
    train, val, test = (times[splits["split"] == name] for name in NAMES)
    assert train.max() <= val.min()
    assert val.max() <= test.min()
    assert "time_overlap" in codes(run_check("prep", tmp_path), "passed")


def test_a_series_with_memory_is_split_forward_without_being_asked(tmp_path: Path) -> None:
    frame = people()
    order = pd.to_datetime(frame["start"]).rank().to_numpy()
    frame["level"] = np.sin(order / 40) * 5 + frame["size / m"]
    structure = {"structure": {"time": [{"column": "start", "reason": "dated"}]}}
    frame = frame.drop(columns=["bought", "leak"])
    folder = prepare(tmp_path, frame, "level", "regression", profile=structure)
    assert read_json(folder, "metadata")["split_strategy"] == "time_forward"


def test_regression_from_text_with_gaps_in_the_target(tmp_path: Path) -> None:
    frame = people().drop(columns=["bought", "leak"])
    cost = frame["size / m"] * 20 + 7
    frame["cost"] = [f"{value:.2f}".replace(".", ",") for value in cost]
    frame.loc[frame.index[:20], "cost"] = " "
    folder = prepare(tmp_path, frame, "cost", "regression")
    metadata = read_json(folder, "metadata")
    assert metadata["missing_target_rows"] == 20
    assert metadata["problem_type"] == "regression"
    train = pd.read_parquet(folder / "data" / "train.parquet")
    assert train["cost"].dtype == "float64"
    assert codes(run_check("prep", tmp_path), "errors") <= {"target_proxy"}


def test_rare_classes_and_few_rows_are_reported(tmp_path: Path) -> None:
    frame = people(120)
    frame["bought"] = frame["bought"].where(frame.index != 5, "perhaps")
    folder = prepare(tmp_path, frame, "bought")
    assert splits_of(folder)["split"][5] == "train"
    identities = {row["id"] for row in read_json(folder, "decisions")}
    assert {"split.rare_classes", "split.small"} <= identities
    assert read_json(folder, "metadata")["validation"]["method"] == "repeated_cv"


@pytest.mark.parametrize(
    ("frame", "params", "sentence"),
    [
        (people()[["number", "bought"]], {}, "No column is left"),
        (people().assign(bought="yes"), {}, "one value only"),
        (people(), {"group": "team"}, "group column 'team'"),
        (people(), {"time": "year"}, "time column 'year'"),
    ],
    ids=["ids only", "one class", "no such group", "no such time"],
)
def test_what_cannot_be_prepared_is_one_sentence(
    tmp_path: Path, frame: pd.DataFrame, params: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ScriptFailedError) as failure:
        prepare(tmp_path, frame, "bought", **params)
    assert failure.value.code == 2
    assert sentence in failure.value.stderr
    assert failure.value.stderr.count("\n") == 1


def test_copied_test_rows_are_found_after_a_round_trip(tampered: Path) -> None:
    splits = splits_of(tampered)
    test = splits[splits["split"] == "test"].head(20)
    train = pd.read_parquet(tampered / "data" / "train.parquet")
    copies = pd.read_parquet(tampered / "data" / "test.parquet").head(20)
    more = test.assign(split="train", position=range(len(train), len(train) + 20))
    respoil(tampered, "train", pd.concat([train, copies], ignore_index=True))
    respoil(tampered, "splits", pd.concat([splits, more], ignore_index=True))
    errors = codes(run_check("prep", tampered.parent), "errors")
    assert {"row_overlap", "duplicate_rows", "provenance", "metadata_wrong"} <= errors


@pytest.mark.parametrize("name", NAMES)
def test_gaps_and_infinities_are_found_in_every_split(tampered: Path, name: str) -> None:
    frame = pd.read_parquet(tampered / "data" / f"{name}.parquet")
    frame.loc[0, "price"], frame.loc[1, "price"] = np.nan, np.inf
    respoil(tampered, name, frame)
    errors = run_check("prep", tampered.parent)["errors"]
    messages = [finding["message"] for finding in errors if finding["code"] == "nulls"]
    assert [message.split(":")[0] for message in messages] == [name, name]


def test_another_order_of_columns_is_found(tampered: Path) -> None:
    frame = pd.read_parquet(tampered / "data" / "val.parquet")
    respoil(tampered, "val", frame[frame.columns[::-1]])
    assert "schema" in codes(run_check("prep", tampered.parent), "errors")


def test_another_order_of_rows_is_found(tampered: Path) -> None:
    frame = pd.read_parquet(tampered / "data" / "test.parquet")
    respoil(tampered, "test", frame.iloc[::-1].reset_index(drop=True))
    errors = codes(run_check("prep", tampered.parent), "errors")
    assert {"target_values", "pipeline_differs"} <= errors


def test_a_feature_that_copies_the_target_is_found(tampered: Path) -> None:
    for name in NAMES:
        frame = pd.read_parquet(tampered / "data" / f"{name}.parquet")
        frame["price"] = (frame["bought"] == "yes") * 1.0
        respoil(tampered, name, frame)
    errors = codes(run_check("prep", tampered.parent), "errors")
    assert {"target_proxy", "pipeline_differs"} <= errors


def test_files_that_are_gone_or_broken_are_findings(tampered: Path) -> None:
    (tampered / "data" / "val.parquet").write_bytes(b"no parquet")
    (tampered / "data" / "metadata.json").write_text('{"target_column": NaN}')
    (tampered / "data" / "prep_pipeline.pkl").unlink()
    errors = run_check("prep", tampered.parent)["errors"]
    assert codes({"errors": errors}, "errors") >= {"file_unreadable", "file_missing"}


def test_a_pipeline_that_does_not_load_is_found(tampered: Path) -> None:
    (tampered / "data" / "prep_pipeline.py").write_text("raise RuntimeError('gone')\n")
    assert "pipeline_unusable" in codes(run_check("prep", tampered.parent), "errors")
