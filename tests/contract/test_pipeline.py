"""The main job on one small table of every kind of column: it ends well, twice the same."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import trainable

ROWS = 260


def table() -> pd.DataFrame:
    """Return customers who stay or leave, with gaps, dates, text, ids, copies and a leak."""
    random = np.random.default_rng(7)
    age = random.integers(18, 80, ROWS).astype(float)
    plan = random.choice(["basic", "plus", "pro"], ROWS)
    days = random.integers(0, 900, ROWS)
    chance = 1 / (1 + np.exp(-(0.05 * (age - 45) + (plan == "basic") - 0.002 * days)))
    left = random.random(ROWS) < chance
    age[random.choice(ROWS, 20, replace=False)] = np.nan
    return pd.DataFrame(
        {
            "customer": [f"C-{number:05d}" for number in random.permutation(ROWS)],
            "age": age,
            "plan": plan,
            "joined": pd.Timestamp("2024-01-01") + pd.to_timedelta(days, "D"),
            "spend": [f"{value:.2f}" if value > 5 else " " for value in random.gamma(2, 20, ROWS)],
            "note | odd/name": random.choice(["called twice", "", "wants a refund"], ROWS),
            "country": "NL",
            "closed_account": np.where(left, "closed", "open"),
            "left": np.where(left, "yes", "no"),
        }
    )


def digests(session: trainable.Session) -> dict[str, str]:
    """Return the hash of each file, by its path below the session."""
    found = {one.path.split("/", 2)[2]: one.sha256 for one in session.artifacts()}
    return {path: sha256 for path, sha256 in found.items() if not path.endswith("run_info.json")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "customers.csv"
    table().to_csv(path, index=False)
    return path


def test_two_passes_end_well_and_leave_the_same_files(data: Path):
    first = trainable.run(data, target="left")
    assert first.state == "train_done"
    assert [error for stage in trainable.Stage for error in first.validation(stage).errors] == []

    command = [sys.executable, "-m", "trainable", "run", str(data), "--target", "left", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    second = trainable.Session.load(events[-1]["session_id"])
    assert digests(first) == digests(second)

    check_the_leak_was_found(first)
    check_the_model_predicts_raw_rows(first, data)
    check_what_is_remembered(first)


def check_the_leak_was_found(session: trainable.Session) -> None:
    assert "`closed_account`" in session.report("eda")
    columns = set(session.sql("FROM train LIMIT 1").columns)
    assert not any("closed_account" in name or "customer" in name for name in columns)
    assert 0.5 < session.score.value < 0.95


def check_the_model_predicts_raw_rows(session: trainable.Session, data: Path) -> None:
    """`predict.py` is all that a colleague needs."""
    script = next(one for one in session.artifacts("train") if one.name == "predict.py")
    command = [sys.executable, script.local_path, str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= ROWS


def check_what_is_remembered(session: trainable.Session) -> None:
    meta = session._home.database.dataset_meta(session.id)
    assert meta.target_column == "left"
    assert meta.train_rows + meta.val_rows + meta.test_rows == meta.total_rows == ROWS
    assert not session.metrics().empty
    compared = trainable.compare([session, "latest"])
    assert compared["test_score"].nunique() == 1
    hashed = {one.path: one.sha256 for one in session.artifacts()}
    report = next(path for path in hashed if path.endswith("train/report.md"))
    text = session.report("train").encode()
    assert hashed[report] == hashlib.sha256(text).hexdigest()
