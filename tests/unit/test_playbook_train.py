"""The Train scripts of the playbook and their validator, on small tables with a hand-made Prep."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.support.playbook import ScriptFailedError, make_dataset, run_check, run_stage

QUICK = {"trials": 4, "rounds": 80, "trees": 30}
ODD = "how/much | `$x^$`\n\U0001f600"


def make_prep(frame: pd.DataFrame, root: Path, target: str, **extra: Any) -> Path:
    """Write what Prep would have left for `frame`, split 70/15/15 in a fixed random order."""
    make_dataset(frame, root)
    data = root / "prep" / "data"
    data.mkdir(parents=True)
    order = np.random.default_rng(0).permutation(len(frame))
    cut = [int(0.7 * len(frame)), int(0.85 * len(frame))]
    parts = dict(zip(("train", "val", "test"), np.split(order, cut), strict=True))
    inputs = frame.drop(columns=[target])
    numeric = [c for c in inputs if pd.api.types.is_numeric_dtype(inputs[c])]
    words = [c for c in inputs if c not in numeric and c != extra.get("time_column")]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    numbers = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    blocks = [("number", numbers, numeric), ("word", encoder, words)]
    pipeline = ColumnTransformer(blocks, verbose_feature_names_out=False)
    pipeline.set_output(transform="pandas")
    pipeline.fit(inputs.iloc[parts["train"]])
    rows = []
    for name, ids in parts.items():
        part = pipeline.transform(inputs.iloc[ids]).reset_index(drop=True)
        part.assign(**{target: frame[target].to_numpy()[ids]}).to_parquet(data / f"{name}.parquet")
        spots = np.arange(len(ids))
        rows.append(pd.DataFrame({"row_id": ids, "split": name, "position": spots, "reason": ""}))
    pd.concat(rows, ignore_index=True).to_parquet(data / "splits.parquet")
    joblib.dump(pipeline, data / "prep_pipeline.pkl")
    number = pd.api.types.is_float_dtype(frame[target])
    facts = {"target_column": target, "problem_type": "regression" if number else "classification"}
    (data / "metadata.json").write_text(json.dumps({**facts, "split_hash": "0f", **extra}))
    return root


def people(rows: int, seed: int = 1) -> pd.DataFrame:
    """Return columns of several kinds, with odd names, to build a target on."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.normal(40, 12, rows), ODD: rng.exponential(2, rows)})
    frame["city"] = rng.choice(["Rome", "Oslo", "Lima|"], rows)
    frame["noise"] = rng.normal(0, 1, rows)
    frame.loc[rng.random(rows) < 0.05, "age"] = np.nan
    return frame


def rare_yes(rows: int = 400) -> pd.DataFrame:
    frame = people(rows)
    drive = frame["age"].fillna(40) / 6 + 3 * (frame["city"] == "Oslo") - frame[ODD]
    limit = np.quantile(drive + np.random.default_rng(2).normal(0, 1.5, rows), 0.84)
    return frame.assign(churn=np.where(drive > limit, "yes", "no"))


def load(root: Path) -> dict[str, Any]:
    return json.loads((root / "train/data/metadata.json").read_text("utf-8"))


def digests(root: Path) -> dict[str, str]:
    """Return a digest of each artifact that has to be the same in two runs."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "train").rglob("*"))
        if path.is_file() and path.name != "run_info.json" and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished Train of a binary target with a rare class."""
    root = make_prep(rare_yes(), tmp_path_factory.mktemp("churn"), "churn")
    run_stage("train", root, QUICK)
    return root


@pytest.fixture
def copied(churn: Path, tmp_path: Path) -> Path:
    """A copy of the finished stage, to spoil."""
    return shutil.copytree(churn, tmp_path / "copy")


@pytest.mark.timeout(900)
def test_a_binary_target_gives_all_files_and_passes_the_validator(churn: Path) -> None:
    files = {str(path.relative_to(churn / "train")) for path in (churn / "train").rglob("*")}
    assert files >= {
        "report.md",
        "model_card.md",
        "run_info.json",
        "models/model.pkl",
        "models/predict.py",
        "data/leaderboard.csv",
        "data/trials.csv",
        "data/val_predictions.parquet",
        "data/test_predictions.parquet",
        "figures/leaderboard.png",
        "figures/roc_pr.png",
        "figures/confusion.png",
        "figures/shap_beeswarm.png",
    }
    assert "work" not in files
    found = run_check("train", churn)
    assert found["errors"] == []
    assert {"model_loads", "model_takes_raw_rows", "test_metrics_reproduced"} <= {
        finding["code"] for finding in found["passed"]
    }


def test_nothing_is_printed_to_stderr(churn: Path) -> None:
    assert (churn / "logs/train.err").read_text() == ""


def test_the_rare_class_is_the_positive_one_and_gets_compared_treatments(churn: Path) -> None:
    data = load(churn)
    assert data["classes"] == ["no", "yes"]
    assert data["metric"] == "roc_auc"
    assert "LightGBM (SMOTE)" in data["models_evaluated"]
    assert "class weights" in data["class_imbalance_strategy"]
    low, high = data["headline"]["ci95"]
    assert low <= data["headline"]["value"] <= high
    assert data["test_evaluations"] == 1


def test_the_best_model_is_chosen_without_the_test_rows(churn: Path) -> None:
    board = pd.read_csv(churn / "train/data/leaderboard.csv")
    assert board["chosen"].sum() == 1
    assert not any("test" in column for column in board.columns)


def test_new_rows_are_predicted_from_a_file(churn: Path, tmp_path: Path) -> None:
    rows = rare_yes().drop(columns=["churn"]).head(7)
    rows.to_csv(tmp_path / "new.csv", index=False)
    command = [sys.executable, "predict.py", str(tmp_path / "new.csv"), "-o", str(tmp_path / "out")]
    subprocess.run(command, cwd=churn / "train/models", check=True)
    out = pd.read_csv(tmp_path / "out")
    assert list(out.columns) == ["prediction", "probability no", "probability yes"]
    assert set(out["prediction"]) <= {"no", "yes"}
    assert np.allclose(out["probability no"] + out["probability yes"], 1)


def test_column_names_cannot_break_the_report(churn: Path) -> None:
    for line in (churn / "train/report.md").read_text("utf-8").splitlines():
        if line.startswith("| how/much"):
            assert "\\|" in line
            assert "\\`" in line


@pytest.mark.timeout(900)
def test_a_second_run_writes_the_same_bytes(churn: Path, tmp_path: Path) -> None:
    again = make_prep(rare_yes(), tmp_path / "again", "churn")
    run_stage("train", again, QUICK)
    assert digests(again) == digests(churn)


@pytest.mark.timeout(900)
def test_a_skewed_number_with_groups_is_learned_by_regression(tmp_path: Path) -> None:
    frame = people(260)
    frame["price"] = np.exp(frame[ODD].clip(upper=4) + frame["noise"] / 4)
    frame["house"] = [f"h{number % 40}" for number in range(260)]
    root = make_prep(frame, tmp_path, "price", group_column="house")
    run_stage("train", root, QUICK)
    data = load(root)
    assert data["metric"] == "rmse"
    assert data["headline"]["value"] < data["headline"]["baseline"]
    assert (root / "train/figures/residuals.png").is_file()
    assert "whole groups" in (root / "train/report.md").read_text()
    assert run_check("train", root)["errors"] == []
    assert (root / "logs/train.err").read_text() == ""


@pytest.mark.timeout(900)
def test_three_classes_in_time_order_with_a_very_rare_one(tmp_path: Path) -> None:
    frame = people(130)
    frame["when"] = pd.date_range("2024-01-01", periods=130, freq="D").astype(str)
    level = pd.cut(frame["noise"], [-9, 0, 1.9, 9], labels=["low", "mid", "top"])
    frame["level"] = level.astype(str)
    dated = {"time_column": "when", "split_strategy": "time"}
    root = make_prep(frame, tmp_path, "level", **dated)
    run_stage("train", root, QUICK)
    data = load(root)
    assert data["metric"] == "log_loss"
    assert data["test_metrics"]["accuracy"] > 0.6
    assert run_check("train", root)["errors"] == []
    assert (root / "logs/train.err").read_text() == ""


def drop_model(train: Path) -> None:
    (train / "models/model.pkl").unlink()


def break_model(train: Path) -> None:
    (train / "models/model.pkl").write_bytes(b"no model")


def edit(train: Path, **values: Any) -> None:
    path = train / "data/metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}))


def invent_score(train: Path) -> None:
    edit(train, test_metrics={"roc_auc": 0.9999, "accuracy": True})


def forget_keys(train: Path) -> None:
    (train / "data/metadata.json").write_text('{"best_model": 3}')


def spoil_json(train: Path) -> None:
    (train / "data/metadata.json").write_text("{")


def edit_predictions(train: Path) -> None:
    path = train / "data/test_predictions.parquet"
    table = pd.read_parquet(path)
    table["y_pred"] = table["y_pred"].iloc[::-1].to_numpy()
    table.to_parquet(path)


def drop_report(train: Path) -> None:
    (train / "report.md").unlink()


def one_model(train: Path) -> None:
    edit(train, models_evaluated=["Dummy", "LightGBM"])


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (drop_model, "model_missing"),
        (break_model, "model_unusable"),
        (invent_score, "test_metrics_differ"),
        (forget_keys, "metadata_keys"),
        (spoil_json, "file_unreadable"),
        (edit_predictions, "predictions_inconsistent"),
        (drop_report, "report_missing"),
        (one_model, "models_evaluated"),
    ],
)
def test_the_validator_names_what_is_wrong(
    copied: Path, spoil: Callable[[Path], None], code: str
) -> None:
    spoil(copied / "train")
    found = run_check("train", copied)
    assert code in {finding["code"] for finding in found["errors"]}


def test_the_validator_warns_of_one_column_that_does_it_all(copied: Path) -> None:
    edit(copied / "train", feature_importance={"alive": 9.0, "age": 1.0})
    codes = {finding["code"] for finding in run_check("train", copied)["warnings"]}
    assert "one_feature_dominates" in codes


def test_a_model_of_prepared_features_is_accepted_with_a_warning(copied: Path) -> None:
    path = copied / "train/models/model.pkl"
    code = (
        "import sys, joblib; sys.path.insert(0, 'models');"
        "joblib.dump(joblib.load('models/model.pkl')[-1], 'models/model.pkl')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=path.parents[1], check=True)
    found = run_check("train", copied)
    assert "model_takes_prepared_rows" in {finding["code"] for finding in found["warnings"]}
    assert found["errors"] == []


def test_text_among_prepared_features_stops_with_one_sentence(tmp_path: Path) -> None:
    root = make_prep(rare_yes(60), tmp_path, "churn")
    path = root / "prep/data/train.parquet"
    pd.read_parquet(path).assign(city="Rome").to_parquet(path)
    with pytest.raises(ScriptFailedError) as caught:
        run_stage("train", root, QUICK)
    assert caught.value.code == 2
    assert len(caught.value.stderr.strip().splitlines()) == 1
