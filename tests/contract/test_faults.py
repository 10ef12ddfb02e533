"""A full disk and a read-only home: one clear sentence, and nothing that was stored is lost."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import trainable
from trainable.errors import StorageError
from trainable.sandbox.local import LocalSandbox
from trainable.testing.agent import ScriptedAgent

FRAME = pd.DataFrame({"age": range(40), "paid": [0, 1] * 20})
FILL = """
with open("filler", "wb") as file:
    try:
        while True:
            file.write(bytes(1 << 16))
    except OSError as error:
        print(error)
"""


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a home on a disk of 4 MiB of its own."""
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk, which needs root: {mounted.stderr.strip()}")
    monkeypatch.setenv("TRAINABLE_HOME", str(tmp_path))
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def make(*codes: str) -> trainable.Session:
    sandbox = LocalSandbox(preload=())
    return trainable.Session(FRAME, agent=ScriptedAgent(codes), sandbox=sandbox)


def test_a_disk_that_fills_up_fails_the_run_and_it_can_run_again(small_disk: Path):
    session = make(FILL, "print('more')")
    with pytest.raises(StorageError, match="full") as caught:
        session.run("eda").wait()
    assert caught.value.remedy
    filler = next(small_disk.glob("volume/sessions/*/eda/filler"))
    filler.unlink()
    stored = session.events()
    assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
    after = list(session.run("eda", agent=ScriptedAgent(["print('again')"])))
    assert after[-1].type == "state_change"
    assert [run.state for run in session._home.database.runs(session.id)] == ["failed", "failed"]


def test_a_dataset_that_does_not_fit_is_refused_and_leaves_nothing(small_disk: Path):
    big = pd.DataFrame({"a": [os.urandom(16).hex() for _ in range(200_000)], "b": 1})
    with pytest.raises(StorageError, match="the disk is full"):
        trainable.Session(big)
    assert trainable.experiments() == []
    assert list((small_disk / "volume/datasets").iterdir()) == []
    assert make("print(1)").state == "created"


def test_a_read_only_home_is_refused_with_the_remedy(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="TRAINABLE_HOME"):
        make("print(1)")
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
