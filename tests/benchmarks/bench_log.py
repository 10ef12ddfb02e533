"""What one logged number costs from `log()` to the disk, beside a pipe, tensorboardX and MLflow.

The peers live in an environment of their own: `make bench` makes it from `peers.txt`.
"""

import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import trainable
from trainable.errors import StageFailed
from trainable.sandbox.local import LocalSandbox
from trainable.testing.agent import ScriptedAgent

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv-peers/bin/python"
CALLS = 100_000
NAMES = 4
GOAL = 10.0
"""CPU seconds for a million numbers."""

pytestmark = pytest.mark.bench

LOOP = """
from trainable import log
for i in range({calls}):
    log(i, {{"a": i * 0.1, "b": i * 0.2, "c": i * 0.3, "d": i * 0.4}}, run="m")
"""
PIPE = """
import json, sys
for i in range({calls}):
    values = {{"a": i * 0.1, "b": i * 0.2, "c": i * 0.3, "d": i * 0.4}}
    print(json.dumps({{"step": i, "metrics": values, "run": "m"}}), flush=True)
"""
TENSORBOARD = """
import tempfile, tensorboardX
writer = tensorboardX.SummaryWriter(tempfile.mkdtemp())
for i in range({calls}):
    for name, factor in (("a", 0.1), ("b", 0.2), ("c", 0.3), ("d", 0.4)):
        writer.add_scalar(name, i * factor, i)
writer.close()
"""
MLFLOW = """
import mlflow, tempfile
mlflow.set_tracking_uri("sqlite:///" + tempfile.mkdtemp() + "/mlflow.db")
with mlflow.start_run():
    for i in range({calls}):
        mlflow.log_metrics({{"a": i * 0.1, "b": i * 0.2, "c": i * 0.3, "d": i * 0.4}}, step=i)
"""


def cpu_seconds() -> float:
    """Return what this process and its ended children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def ours(calls: int) -> None:
    agent = ScriptedAgent([LOOP.format(calls=calls)])
    frame = pd.DataFrame({"a": range(9), "b": range(9)})
    session = trainable.Session(frame, agent=agent, sandbox=LocalSandbox(preload=()))
    with pytest.raises(StageFailed):
        session.run("eda").wait()
    assert len(session.metrics()) == calls * NAMES


def peer(python: Path | str, code: str, calls: int) -> None:
    command = [str(python), "-c", code.format(calls=calls)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def per_million(run: object, few: int, many: int) -> float:
    """Return CPU seconds for a million numbers, without what starting costs."""
    costs = []
    for calls in (few, many):
        before = cpu_seconds()
        run(calls)
        costs.append(cpu_seconds() - before)
    return (costs[1] - costs[0]) / ((many - few) * NAMES) * 1e6


def test_cost_of_a_logged_number() -> None:
    rows = {
        "log(), durable": min(per_million(ours, 1_000, CALLS) for _ in range(3)),
        "print to a pipe": per_million(lambda n: peer(sys.executable, PIPE, n), 1_000, CALLS),
    }
    if PEERS.exists():
        rows["tensorboardX"] = per_million(lambda n: peer(PEERS, TENSORBOARD, n), 100, 5_000)
        rows["MLflow, SQLite"] = per_million(lambda n: peer(PEERS, MLFLOW, n), 20, 520)
    print(f"\n\nCPU seconds for a million numbers (goal for log(): {GOAL:g})")
    for name, cost in rows.items():
        print(f"  {name:<18}{cost:>10.1f}{cost / rows['log(), durable']:>10.2f} x log()")
    assert rows["log(), durable"] > 0
