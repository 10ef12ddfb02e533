"""Whole passes over public datasets, by library and by command line.

`TRAINABLE_TEST_DATA` names a folder with the files; they are no part of the repository.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import trainable

pytestmark = pytest.mark.soak
DATA = Path(os.environ.get("TRAINABLE_TEST_DATA", "tests/soak/data"))


@dataclass(frozen=True)
class Case:
    """A file, its target, and the score that an honest model reaches."""

    file: str
    target: str
    metric: str
    worst: float
    best: float


CASES = (
    Case("titanic.csv", "survived", "roc_auc", 0.78, 0.93),
    Case("telco-customer-churn.csv", "Churn", "roc_auc", 0.81, 0.87),
    Case("penguins.csv", "species", "log_loss", 0.15, 0.0),
    Case("mpg.csv", "mpg", "rmse", 3.6, 1.8),
    Case("diamonds.csv", "price", "rmse", 620, 450),
    Case("taxis.csv", "fare", "rmse", 5.0, 0.5),
    Case("winequality-red.csv", "quality", "rmse", 0.72, 0.5),
    Case("adult-train.csv", "column_15", "roc_auc", 0.90, 0.95),
    Case("housing_regression_missing_values_missing_target.csv", "MEDV", "rmse", 4.5, 2.0),
    Case("scat.csv", "Species", "log_loss", 1.0, 0.2),
)


@pytest.fixture(params=CASES, ids=lambda case: case.file)
def case(request: pytest.FixtureRequest) -> Case:
    if not (DATA / request.param.file).exists():
        pytest.skip(f"set TRAINABLE_TEST_DATA to a folder that holds {request.param.file}")
    return request.param


def check(session: trainable.Session, case: Case) -> None:
    """A pass has to end well, without an error finding and with a believable score."""
    assert session.state == "train_done"
    for stage in trainable.Stage:
        assert session.validation(stage).errors == []
        assert session.report(stage).startswith("# ")
    score = session.score
    assert score.metric == case.metric
    low, high = sorted((case.worst, case.best))
    assert low <= score.value <= high, score
    _CHECKS.get(case.file, lambda _: None)(session)


def prep_metadata(session: trainable.Session) -> dict[str, object]:
    path = f"sessions/{session.id}/prep/data/metadata.json"
    return next(found for found in session.artifacts("prep") if found.path == path).load()


def check_titanic(session: trainable.Session) -> None:
    assert "`alive`" in session.report("eda")
    assert "alive" in prep_metadata(session)["dropped_columns"]


def check_housing(session: trainable.Session) -> None:
    assert prep_metadata(session)["missing_target_rows"] > 0


def check_wine(session: trainable.Session) -> None:
    report = session.report("eda")
    assert "regression" in report
    assert 'task="classification"' in report or "task='classification'" in report


def check_adult(session: trainable.Session) -> None:
    assert session.sql("SELECT count(*) AS n FROM raw")["n"][0] == 32_561


_CHECKS = {
    "titanic.csv": check_titanic,
    "housing_regression_missing_values_missing_target.csv": check_housing,
    "winequality-red.csv": check_wine,
    "adult-train.csv": check_adult,
}


def test_by_library(case: Case):
    session = trainable.run(DATA / case.file, target=case.target)
    check(session, case)


def test_by_command_line(case: Case):
    command = [sys.executable, "-m", "trainable", "run", str(DATA / case.file)]
    done = subprocess.run(
        [*command, "--target", case.target, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["state"] == "train_done"
    check(trainable.Session.load(events[-1]["session_id"]), case)
