"""Compares the playbook's final model with three default models, and prints the table.

    python tests/benchmarks/bench_models.py DATA_FOLDER [--seeds 0 1 2] [--only titanic mpg]

The three get the same features and the same rows: those of training and validation, since the
playbook refits its final model on both. A seed changes the split. The playbook loses where the
95 % interval of the paired difference on the test rows lies wholly on the wrong side; a data set
is good where it loses with no seed.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.metrics import roc_auc_score

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
from support.playbook import make_dataset, run_stage  # noqa: E402

SEED = 42
DRAWS = 400


@dataclass(frozen=True)
class Question:
    """A data set and what to predict of it."""

    file: str
    target: str
    leave_out: tuple[str, ...] = ()


QUESTIONS = {
    "titanic": Question("titanic.csv", "survived"),
    "telco": Question("telco-customer-churn.csv", "Churn"),
    "penguins": Question("penguins.csv", "species"),
    "mpg": Question("mpg.csv", "mpg"),
    "diamonds": Question("diamonds.csv", "price"),
    "taxis": Question("taxis.csv", "fare", ("total", "tip", "payment")),
}


@dataclass(frozen=True)
class Table:
    """Rows that models are fitted on, and the test rows."""

    features: Any
    labels: Any
    test_features: Any
    truth: Any
    classes: tuple[str, ...]


def explore(question: Question, data: Path, root: Path) -> pd.DataFrame:
    """Run EDA, which depends on no seed, and return the table."""
    frame = pd.read_csv(data / question.file).drop(columns=list(question.leave_out))
    make_dataset(frame, root)
    run_stage("eda", root, {"target": question.target})
    return frame


def train(question: Question, frame: pd.DataFrame, root: Path, seed: int) -> None:
    """Run Prep and Train on the rows in another order, and so with another split."""
    make_dataset(frame.sample(frac=1, random_state=seed), root)
    for stage in ("prep", "train"):
        shutil.rmtree(root / stage)
        (root / stage).mkdir()
        run_stage(stage, root, {"target": question.target})


def load(root: Path, target: str) -> Table:
    """Return what Prep made of the data."""
    parts = {n: pd.read_parquet(root / f"prep/data/{n}.parquet") for n in ("train", "val", "test")}
    known = pd.concat([parts["train"], parts["val"]], ignore_index=True)
    labels, truth = known[target], parts["test"][target]
    classes: tuple[str, ...] = ()
    if pd.read_json(root / "prep/data/metadata.json", typ="series")["problem_type"] != "regression":
        labels, truth = labels.map(str), truth.map(str)
        classes = tuple(sorted(labels.unique()))
    drop = {name: part.drop(columns=[target]).to_numpy(float) for name, part in parts.items()}
    features = np.concatenate([drop["train"], drop["val"]])
    return Table(features, labels.to_numpy(), drop["test"], truth.to_numpy(), classes)


def peer_outputs(table: Table) -> dict[str, Any]:
    """Return the test predictions of the three default models."""
    kinds = (
        (HistGradientBoostingClassifier, RandomForestClassifier, LGBMClassifier)
        if table.classes
        else (HistGradientBoostingRegressor, RandomForestRegressor, LGBMRegressor)
    )
    found: dict[str, Any] = {}
    for name, kind in zip(("hgb", "rf", "lgbm"), kinds, strict=True):
        quiet = {"verbose": -1} if name == "lgbm" else {}
        model = kind(random_state=SEED, **quiet).fit(pd.DataFrame(table.features), table.labels)
        rows = pd.DataFrame(table.test_features)
        found[name] = model.predict_proba(rows) if table.classes else model.predict(rows)
    return found


def our_output(root: Path, table: Table) -> Any:
    """Return the playbook's test predictions, classes in sorted order."""
    saved = pd.read_parquet(root / "train/data/test_predictions.parquet")
    if not table.classes:
        return saved["y_pred"].to_numpy()
    return saved[[f"proba_{label}" for label in table.classes]].to_numpy()


def loss(table: Table, output: Any, rows: Any) -> float:
    """Return the headline metric on some test rows, turned so that less is better."""
    truth = table.truth[rows]
    if not table.classes:
        return float(np.sqrt(np.mean((output[rows] - truth) ** 2)))
    if len(table.classes) == 2:
        return -float(roc_auc_score(truth == table.classes[1], output[rows, 1]))
    place = np.searchsorted(np.array(table.classes), truth)
    return float(-np.log(np.clip(output[rows, place], 1e-15, 1)).mean())


def compare(table: Table, ours: Any, peers: dict[str, Any]) -> tuple[dict[str, float], str]:
    """Return all scores and whether the playbook wins, ties or loses against the best of three."""
    every = np.arange(len(table.truth))
    scores = {name: loss(table, output, every) for name, output in {"ours": ours, **peers}.items()}
    best = min(peers, key=lambda name: scores[name])
    rng = np.random.default_rng(SEED)
    draws = [rng.integers(0, len(every), len(every)) for _ in range(DRAWS)]
    gaps = [loss(table, ours, rows) - loss(table, peers[best], rows) for rows in draws]
    low, high = np.quantile(gaps, [0.025, 0.975])
    return scores, "loses" if low > 0 else "wins" if high < 0 else "ties"


def run(data: Path, seeds: list[int], names: list[str]) -> int:
    """Run the data sets with every seed, print the table, return how many are good."""
    head = f"{'data':10} {'seed':>4} {'ours':>10} {'hgb':>10} {'rf':>10} {'lgbm':>10}"
    print(f"\n{head}  against the best of three")
    lost: set[str] = set()
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            frame = explore(QUESTIONS[name], data, Path(folder))
            for seed in seeds:
                started = time.perf_counter()
                train(QUESTIONS[name], frame, Path(folder), seed)
                table = load(Path(folder), QUESTIONS[name].target)
                ours = our_output(Path(folder), table)
                scores, verdict = compare(table, ours, peer_outputs(table))
                gap = min(scores[n] for n in ("hgb", "rf", "lgbm")) - scores["ours"]
                gap /= abs(scores["ours"]) or 1.0
                cells = " ".join(f"{abs(value):10.4f}" for value in scores.values())
                seconds = f"{time.perf_counter() - started:.0f} s"
                print(f"{name:10} {seed:4} {cells}  {verdict} ({gap:+.2%})  {seconds}", flush=True)
                lost |= {name} if verdict == "loses" else set()
    good = len(names) - len(lost)
    print(f"At least as good as the best of three, within noise: {good} of {len(names)}.")
    return good


@pytest.mark.bench
def test_the_final_model_beside_three_defaults() -> None:
    data = os.environ.get("TRAINABLE_TEST_DATA")
    if data is None:
        pytest.skip("set TRAINABLE_TEST_DATA to a folder that holds titanic.csv and the others")
    assert run(Path(data), [0, 1, 2], list(QUESTIONS)) >= 5


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(QUESTIONS))
    options = parser.parse_args()
    run(options.data, options.seeds, options.only)


if __name__ == "__main__":
    main()
