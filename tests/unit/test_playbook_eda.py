"""EDA by the playbook: what it finds in tables of many shapes, and how its output is checked."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from tests.support.playbook import (
    ScriptFailedError,
    make_dataset,
    run_check,
    run_stage,
)

SECTIONS = (
    *("Verdict", "Dataset", "Alerts", "Target and task", "Signal ranking", "Columns"),
    *("Missing values", "Associations", "Time and group structure", "Leakage"),
    *("Plan for Prep", "Method"),
)


def passengers(rows: int = 400) -> pd.DataFrame:
    """A mixed table with gaps, a copied target, renamed levels, and an id."""
    random = np.random.default_rng(7)
    sex = random.choice(["male", "female"], rows)
    grade = random.choice([1, 2, 3], rows)
    age = random.normal(30, 12, rows).clip(1).round(1)
    fare = np.exp(random.normal(4 - grade, 0.5)).round(3)
    logit = 1.8 * (sex == "female") - 0.9 * (grade - 2) - 0.4
    survived = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    frame = pd.DataFrame(
        {
            "survived": survived,
            "grade": grade,
            "sex": sex,
            "age": np.where(random.random(rows) < 0.2, np.nan, age),
            "fare": fare,
            "port": random.choice(["S", "C", "Q"], rows, p=[0.7, 0.2, 0.1]),
            "alive": np.where(survived == 1, "yes", "no"),
            "class": pd.Series(grade).map({1: "First", 2: "Second", 3: "Third"}),
            "ticket_id": [f"T{number:05d}" for number in random.permutation(rows)],
        }
    )
    return frame


def explore(frame: pd.DataFrame, root: Path, **params: Any) -> dict[str, Any]:
    """Run EDA on `frame`; return its profile."""
    make_dataset(frame, root)
    run_stage("eda", root, {"target": None, "task": None, **params})
    return read_json(root / "eda" / "data" / "profile.json")


def read_json(path: Path) -> Any:
    """Read JSON; NaN and Infinity, which only Python knows, fail the test."""
    return json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)


def column(profile: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in profile["columns"] if entry["name"] == name)


def alerts_of(root: Path) -> set[tuple[str, str | None]]:
    alerts = read_json(root / "eda" / "data" / "alerts.json")
    return {(alert["code"], alert["column"]) for alert in alerts}


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which EDA of `passengers` has run."""
    root = tmp_path_factory.mktemp("passengers")
    explore(passengers(), root, target="survived")
    return root


@pytest.fixture
def copied(explored: Path, tmp_path: Path) -> Path:
    """A copy of `explored` that a test may damage."""
    for name in ("dataset", "eda"):
        shutil.copytree(explored / name, tmp_path / name)
    return tmp_path


def findings_of(root: Path, level: str = "errors") -> set[str]:
    return {finding["code"] for finding in run_check("eda", root)[level]}


def test_the_report_has_all_sections_in_order_and_five_lines_of_verdict(explored: Path) -> None:
    report = (explored / "eda" / "report.md").read_text("utf-8")
    assert re.findall(r"^## (.*)$", report, re.MULTILINE) == list(SECTIONS)
    verdict = report.split("## Verdict")[1].split("## ")[0]
    assert len(re.findall(r"^\d\. ", verdict, re.MULTILINE)) == 5
    assert "`alive` must not be used" in verdict


def test_a_copy_of_the_target_is_named_as_a_leak_and_advised_to_be_left_out(explored: Path) -> None:
    profile = read_json(explored / "eda" / "data" / "profile.json")
    errors = [leak for leak in profile["leaks"] if leak["severity"] == "error"]
    assert [(leak["column"], leak["score"]) for leak in errors] == [("alive", 1.0)]
    codes = {item["column"]: item["code"] for item in profile["drop"]}
    assert codes == {"alive": "target_proxy", "class": "same_information", "ticket_id": "id"}


def test_the_profile_agrees_with_the_data(explored: Path) -> None:
    frame, profile = passengers(), read_json(explored / "eda" / "data" / "profile.json")
    assert profile["dataset"]["rows"] == len(frame)
    assert [entry["name"] for entry in profile["columns"]] == list(frame.columns)
    gaps = {entry["name"]: entry["missing"] for entry in profile["columns"]}
    assert gaps == frame.isna().sum().to_dict()
    age = column(profile, "age")["numeric"]
    assert age["mean"] == pytest.approx(frame["age"].mean())
    assert age["p50"] == pytest.approx(frame["age"].median())
    assert profile["target"]["classes"] == {
        str(label): count for label, count in frame["survived"].value_counts().items()
    }


def test_figures_are_small_and_described(explored: Path) -> None:
    paths = sorted((explored / "eda" / "figures").glob("*.png"))
    assert len(paths) >= 8
    assert all(path.stat().st_size <= 150_000 for path in paths)
    report = (explored / "eda" / "report.md").read_text("utf-8")
    shown = dict(re.findall(r"!\[(.+?)\]\(figures/(.+?)\)", report))
    assert sorted(shown.values()) == [path.name for path in paths]
    traces = read_json(explored / "eda" / "figures" / "signal.plotly.json")["data"]
    assert "sex" in traces[0]["y"]


def test_nothing_is_printed_on_stderr_and_the_target_is_handed_on(tmp_path: Path) -> None:
    make_dataset(passengers(), tmp_path)
    handed_on = run_stage("eda", tmp_path, {"target": "survived"})
    assert handed_on == {"target": "survived", "task": "classification"}
    assert (tmp_path / "logs" / "eda.err").read_text() == ""


def test_a_second_run_gives_the_same_bytes(explored: Path, tmp_path: Path) -> None:
    explore(passengers(), tmp_path, target="survived")
    first, second = explored / "eda", tmp_path / "eda"
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert names == sorted(str(p.relative_to(second)) for p in second.rglob("*") if p.is_file())
    names.remove("run_info.json")
    changed = [n for n in names if (first / n).read_bytes() != (second / n).read_bytes()]
    assert changed == []


def test_the_validator_accepts_it(explored: Path) -> None:
    result = run_check("eda", explored)
    assert result["errors"] == result["warnings"] == []
    assert {"report_present", "profile_missing", "leaks_named"} <= {
        finding["code"] for finding in result["passed"]
    }


def test_without_a_target_one_is_suggested_with_reasons_and_runners_up(tmp_path: Path) -> None:
    profile = explore(passengers(), tmp_path)
    target = profile["target"]
    assert target["name"] == "survived"
    assert not target["given"]
    assert target["score"] > 0.5
    assert target["reasons"]
    assert target["runners_up"][0]["score"] <= target["score"]


def test_numbers_stored_as_text_are_found_with_their_blanks(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    months = random.integers(1, 72, 300)
    total = pd.Series((months * 20.5).round(2)).astype(str)
    total[:5] = " "
    frame = pd.DataFrame(
        {
            "customerID": [f"{n:04d}-QXZ" for n in range(300)],
            "months": months,
            "TotalCharges": total,
            "price": [f"1.{n:03d},50" for n in range(300)],
            "paid": [f"${n % 40},{n:03d}" for n in range(300)],
            "code": np.where(random.random(300) < 0.1, -999, random.integers(0, 50, 300)),
            "kind": random.choice(["a", "b", "?"], 300),
            "Churn": random.choice(["Yes", "No"], 300),
        }
    )
    profile = explore(frame, tmp_path, target="Churn")
    total_charges = column(profile, "TotalCharges")
    assert (total_charges["role"], total_charges["null_spellings"]) == ("numeric_text", {"": 5})
    assert total_charges["missing_effective"] == 5
    assert column(profile, "price")["decimal_comma"]
    assert column(profile, "price")["numeric"]["min"] == 1000.5
    assert column(profile, "paid")["role"] == "numeric_text"
    assert list(column(profile, "code")["sentinels"]) == ["-999"]
    assert column(profile, "customerID")["role"] == "id"
    found = alerts_of(tmp_path)
    assert {("null_spelling", "kind"), ("numeric_text", "TotalCharges")} <= found


def test_a_rating_is_a_number_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    frame = pd.DataFrame({"acid": random.normal(size=200), "quality": random.integers(3, 9, 200)})
    target = explore(frame, tmp_path / "a", target="quality")["target"]
    assert (target["task"], target["ambiguous"]) == ("regression", True)
    assert 'task="classification"' in target["task_reason"]
    params = {"target": "quality", "task": "classification"}
    target = explore(frame, tmp_path / "b", **params)["target"]
    assert (target["problem"], target["ambiguous"]) == ("multiclass", False)


def test_parts_of_the_target_and_later_dates_are_doubted(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    pickup = pd.Timestamp("2024-03-01") + pd.to_timedelta(random.integers(0, 40_000, 500), "min")
    distance, tip = random.gamma(2, 2, 500), random.gamma(1, 2, 500)
    fare = 3 + 2.5 * distance + random.normal(0, 1, 500)
    frame = pd.DataFrame(
        {
            "pickup": pickup,
            "dropoff": pickup + pd.to_timedelta(4 * distance + 1, "min"),
            "distance": distance + random.normal(0, 0.3, 500),
            "tip": tip,
            "fare": fare,
            "total": fare + tip + 1.0,
            "payment": random.choice(["card", "cash"], 500),
        }
    )
    profile = explore(frame, tmp_path, target="fare")
    doubted = {(leak["column"], leak["metric"]) for leak in profile["leaks"]}
    assert {("total", "joint_r2"), ("tip", "joint_r2"), ("dropoff", "later_date")} <= doubted
    assert {leak["severity"] for leak in profile["leaks"]} == {"warn"}
    assert column(profile, "pickup")["role"] == "datetime"
    assert [item["column"] for item in profile["structure"]["time"]] == ["pickup", "dropoff"]
    assert (tmp_path / "eda" / "figures" / "time.png").is_file()


def test_repeated_subjects_decide_the_split(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    subject = np.repeat(np.arange(300, 318), 10)
    base = np.repeat(random.normal(300, 40, 18), 10)
    days = np.tile(np.arange(10), 18)
    reaction = base + 10 * days + random.normal(0, 20, 180)
    frame = pd.DataFrame({"Reaction": reaction, "Days": days, "Subject": subject})
    profile = explore(frame, tmp_path, target="Reaction")
    assert [item["column"] for item in profile["structure"]["group"]] == ["Subject"]
    plan = read_json(tmp_path / "eda" / "data" / "plan.json")
    assert plan[0]["id"] == "split.strategy"
    assert "Subject" in plan[0]["what"]


def test_many_columns_are_capped_and_the_report_says_so(tmp_path: Path) -> None:
    random = np.random.default_rng(13)
    frame = pd.DataFrame(random.normal(size=(120, 260))).add_prefix("gene_")
    noisy = frame["gene_7"] + random.normal(0, 0.6, 120)
    frame["label"] = np.where(noisy > 0, "ill", "well")
    profile = explore(frame, tmp_path, target="label")
    assert profile["associations"]["columns"] == 200
    assert profile["signal"]["best"] == "gene_7"
    assert "capped at 200 columns" in (tmp_path / "eda" / "report.md").read_text("utf-8")
    assert ("more_features_than_rows", None) in alerts_of(tmp_path)
    assert findings_of(tmp_path) == set()


def test_useless_columns_are_advised_to_be_left_out(tmp_path: Path) -> None:
    frame = passengers(200)[["survived", "age", "port"]]
    frame = frame.assign(same=7, empty=np.nan, twin=frame["age"], number=range(200))
    frame = frame.assign(endless=np.where(frame.index == 3, np.inf, frame["age"].fillna(1)))
    profile = explore(frame, tmp_path, target="survived")
    codes = {item["column"]: item["code"] for item in profile["drop"]}
    assert codes == {"same": "constant", "empty": "all_missing", "twin": "copy", "number": "id"}
    assert ("infinite_values", "endless") in alerts_of(tmp_path)


def test_hostile_names_and_cells_stay_inert(tmp_path: Path) -> None:
    frame = passengers(200)[["survived", "age", "fare"]]
    frame.columns = ["tar$get$", "a/b | `c`", "NA"]
    cells = ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "![x](http://x/y) $x^2$"]
    frame["\n# 😀 名前"] = np.random.default_rng(1).choice(cells, 200)
    frame[""] = np.arange(200) % 7
    frame["long"] = "x" * 50_000
    profile = explore(frame, tmp_path, target="tar$get$")
    assert [entry["name"] for entry in profile["columns"]] == list(frame.columns)
    report = (tmp_path / "eda" / "report.md").read_text("utf-8")
    outside = re.sub(r"`[^`\n]*`", "", report)
    assert "<script" not in outside
    assert "](http" not in outside
    assert "\n# 😀" not in report
    assert len(report) < 40_000
    assert all(re.fullmatch(r"[a-z_.]+", p.name) for p in (tmp_path / "eda/figures").iterdir())
    assert (tmp_path / "logs" / "eda.err").read_text() == ""
    assert findings_of(tmp_path) == set()


@pytest.mark.parametrize(
    ("target", "alert"),
    [
        (["u", "v"], "few_rows"),
        (["u"] * 60, "single_class"),
        ([3.5] * 60, "single_class"),
        (["u"] * 40 + ["v"] * 18 + ["w"] * 2, "tiny_class"),
        (["u", None, "v"] * 20, "missing_target"),
    ],
)
def test_poor_targets_are_described(target: list[Any], alert: str, tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(size=len(target))
    explore(pd.DataFrame({"x": values, "t": target}), tmp_path, target="t")
    assert alert in {code for code, _ in alerts_of(tmp_path)}
    assert findings_of(tmp_path) == set()


@pytest.mark.parametrize(
    ("target", "task", "sentence"),
    [
        ("nowhere", None, "There is no column 'nowhere'"),
        ("ticket_id", None, "400 different values"),
        ("sex", "regression", "holds texts"),
    ],
)
def test_an_unusable_target_ends_the_stage_with_one_sentence(
    target: str, task: str | None, sentence: str, tmp_path: Path
) -> None:
    make_dataset(passengers(), tmp_path)
    with pytest.raises(ScriptFailedError) as failure:
        run_stage("eda", tmp_path, {"target": target, "task": task})
    assert failure.value.code == 2
    assert sentence in failure.value.stderr
    assert failure.value.stderr.count("\n") == 1


def test_strong_honest_features_are_no_errors(tmp_path: Path) -> None:
    data: Any = load_iris(as_frame=True)
    frame = data.frame.assign(target=data.target.map(dict(enumerate(data.target_names))))
    profile = explore(frame, tmp_path)
    assert profile["target"]["name"] == "target"
    assert profile["drop"] == []


def test_a_large_table_is_sampled_but_counted_in_full(tmp_path: Path) -> None:
    random = np.random.default_rng(17)
    x = random.normal(size=130_000)
    frame = pd.DataFrame(
        {"x": x, "z": random.normal(size=130_000), "y": x + random.normal(size=130_000)}
    )
    frame.loc[::10, "z"] = np.nan
    profile = explore(frame, tmp_path, target="y")
    assert profile["dataset"]["sampled"]
    assert column(profile, "z")["missing"] == 13_000
    assert "random sample of 100,000 rows" in (tmp_path / "eda" / "report.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("path", "text", "code"),
    [
        ("report.md", None, "report_present"),
        ("report.md", "# Notes\n" + "All is well. " * 40, "report_sections"),
        ("data/profile.json", None, "profile_present"),
        ("data/profile.json", '{"dataset": NaN}', "profile_present"),
        ("data/profile.json", "[1, 2", "profile_present"),
        ("figures/target.png", "not an image", "figures_readable"),
        ("data/alerts.json", "[NaN]", "tables_readable"),
    ],
)
def test_the_validator_names_what_is_broken(
    path: str, text: str | None, code: str, copied: Path
) -> None:
    (copied / "eda" / path).unlink()
    if text is not None:
        (copied / "eda" / path).write_text(text, "utf-8")
    assert code in findings_of(copied)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda p: p["dataset"].update(rows=1), "profile_shape"),
        (lambda p: p["columns"].pop(2), "profile_columns"),
        (lambda p: p["columns"][3].update(missing=0), "profile_missing"),
        (lambda p: p["columns"][3].update(role="mystery"), "profile_roles"),
        (lambda p: p["target"].update(name="nowhere"), "target_exists"),
        (lambda p: p["target"].update(task="regression"), "target_task"),
        (lambda p: p["target"]["classes"].update({"0": 1}), "target_classes"),
        (lambda p: p["drop"].append({"column": "survived"}), "drop_advice"),
        (lambda p: (p["drop"].clear(), p["leaks"].clear()), "leaks_named"),
        (lambda p: p.update(columns=[{"name": None}, "text", 7]), "profile_present"),
        (lambda p: p.update(schema_version=2), "profile_version"),
    ],
)
def test_the_validator_compares_the_profile_with_the_data(
    change: Any, code: str, copied: Path
) -> None:
    path = copied / "eda" / "data" / "profile.json"
    profile = read_json(path)
    change(profile)
    path.write_text(json.dumps(profile), "utf-8")
    assert code in findings_of(copied)


def test_the_validator_survives_an_empty_stage(tmp_path: Path) -> None:
    make_dataset(passengers(50), tmp_path)
    assert {"report_present", "figures_present", "profile_present"} <= findings_of(tmp_path)
