"""What the walls of the local sandbox hold, at every level and for every kind of user."""

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import trainable
from tests.support.as_user import ROOT, as_user
from trainable.errors import SandboxError
from trainable.sandbox.base import BoxSpec, CodeResult
from trainable.sandbox.isolation import LEVELS
from trainable.sandbox.local import LocalSandbox
from trainable.testing.agent import ScriptedAgent

USERS = ("root", "ordinary") if os.getuid() == 0 else ("ordinary",)
BEST = "namespaces"
"""The level that every Linux with user namespaces has."""
KILL_DRIVER = "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(60)"
USES = {
    "lightgbm": "from lightgbm import LGBMClassifier as M\nM(n_estimators=5, verbose=-1).fit(X, y)",
    "xgboost": "from xgboost import XGBClassifier as M\nM(n_estimators=5).fit(X, y)",
    "gradient boosting": (
        "from sklearn.ensemble import HistGradientBoostingClassifier as M\nM(max_iter=5).fit(X, y)"
    ),
    "polars": "import polars as pl\npl.DataFrame({'y': y}).group_by('y').len().sort('y')",
    "joblib": "from joblib import Parallel, delayed\nParallel(2)(delayed(abs)(i) for i in (1, 2))",
    "forest": (
        "from sklearn.ensemble import RandomForestClassifier as M\nM(10, n_jobs=2).fit(X, y)"
    ),
    "multiprocessing": (
        "import multiprocessing\nwith multiprocessing.Pool(2) as pool: pool.map(abs, [-1, 2])"
    ),
    "duckdb": "import duckdb\nduckdb.sql('select sum(range) from range(100000)').fetchall()",
}
DATA = "import numpy as np\nX = np.random.rand(2000, 8); y = (X[:, 0] > 0.5).astype(int)\n"


def run_module(user: str, *arguments: str) -> Any:
    """Run a module of tests as `user`; return the JSON that it prints."""
    command = [sys.executable, "-m", *arguments]
    if user == "ordinary" and os.getuid() == 0:
        command = as_user(command)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout)


def assert_held(user: str, level: str, *options: str) -> None:
    """Run attacks where the level works; where it does not, it has to say why."""
    reason = run_module(user, "tests.support.attack_run", "probe")[level]
    if reason is None:
        found = run_module(user, "tests.support.attack_run", level, *options)
        assert {name: problems for name, problems in found.items() if problems} == {}
        assert len(found) > 50
    else:
        assert "not installed" in reason or "root" in reason or "denied" in reason, reason


@pytest.mark.parametrize("user", USERS)
def test_attacks_are_held_and_honest_programs_work(user: str):
    assert_held(user, BEST, *([] if user == USERS[0] else ["--short"]))


def test_attacks_are_held_without_namespaces():
    assert_held("ordinary", "landlock", "--short")


@pytest.mark.soak
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("level", LEVELS)
def test_all_attacks_are_held_at_every_level(user: str, level: str):
    assert_held(user, level, "--slow")


def test_the_attacks_succeed_where_there_are_no_walls():
    succeeded = run_module("ordinary", "tests.support.attack_run", "raw")
    assert len(succeeded) >= 15, succeeded


def test_without_namespaces_landlock_is_used_and_what_it_lacks_is_said():
    found = run_module("ordinary", "tests.support.forbid", "namespaces", "tests.support.walls")
    assert found["level"] == "landlock" and found["exit_code"] == 0
    assert "file names" in found["missing"]


@pytest.mark.parametrize("user", USERS)
def test_where_nothing_works_the_refusal_says_why_and_what_to_do(user: str):
    found = run_module(user, "tests.support.forbid", "everything", "tests.support.walls")
    assert all(f"{level}: " in found["text"] for level in LEVELS), found
    assert "Install bubblewrap" in found["remedy"] and 'isolation="none"' in found["remedy"]


async def run_in(box: Any, code: str, folder: Path) -> CodeResult:
    async def push(item: object) -> None:
        pass

    return await box.run_code(code, script=folder / "step.py", timeout=120, push=push)


async def test_a_driver_that_dies_is_replaced_once(tmp_path: Path):
    sandbox = LocalSandbox(isolation="none", preload=())
    async with sandbox.open(BoxSpec(workdir=tmp_path)) as box:
        assert (await run_in(box, "open('kept', 'w').write('1')", tmp_path)).restarted is None
        died = await run_in(box, KILL_DRIVER, tmp_path)
        assert died.exit_code == -9 and died.restarted
        after = await run_in(box, "assert open('kept').read() == '1'", tmp_path)
        assert after.exit_code == 0 and after.restarted is None
        with pytest.raises(SandboxError, match="died"):
            await run_in(box, KILL_DRIVER, tmp_path)


def test_a_replaced_driver_is_an_event():
    agent = ScriptedAgent([KILL_DRIVER])
    sandbox = LocalSandbox(isolation="none", preload=())
    frame = pd.DataFrame({"a": range(9), "b": range(9)})
    session = trainable.Session(frame, agent=agent, sandbox=sandbox)
    codes = [event.code for event in session.run("eda") if event.type == "notice"]
    assert "driver_restarted" in codes


async def use_everything(folder: Path, times: int) -> None:
    async with LocalSandbox().open(BoxSpec(workdir=folder)) as box:
        for _ in range(times):
            for name, code in USES.items():
                result = await run_in(box, f"{DATA}{code}", folder)
                assert result.exit_code == 0, (name, result)


async def test_libraries_with_threads_work_in_forked_steps(tmp_path: Path):
    await use_everything(tmp_path, times=2)


@pytest.mark.soak
async def test_libraries_with_threads_work_in_forked_steps_many_times(tmp_path: Path):
    await use_everything(tmp_path, times=20)


def belongings() -> dict[str, Any]:
    """Return what this process has: files, threads, children and folders for boxes."""
    gc.collect()
    children: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            children += (task / "children").read_text().split()
    return {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "children": children,
        "folders": sorted(Path(tempfile.gettempdir()).glob("trainable-*")),
        "mounts": Path("/proc/self/mounts").read_text(),
    }


async def open_boxes(folder: Path, count: int, at_once: int) -> None:
    async def one(number: int) -> None:
        workdir = folder / str(number)
        workdir.mkdir(exist_ok=True)
        async with LocalSandbox(preload=()).open(BoxSpec(workdir=workdir)) as box:
            assert (await run_in(box, "print(1)", workdir)).exit_code == 0

    for start in range(0, count, at_once):
        await asyncio.gather(*(one(number) for number in range(start, start + at_once)))


async def assert_nothing_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    (folder / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    await open_boxes(folder, 8, 8)  # starts the two threads
    before = belongings()
    await open_boxes(folder, count, 1)
    await open_boxes(folder, count, 8)
    assert belongings() == before


async def test_boxes_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    await assert_nothing_is_left(tmp_path, monkeypatch, 8)


@pytest.mark.soak
async def test_two_hundred_boxes_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await assert_nothing_is_left(tmp_path, monkeypatch, 200)


async def test_a_script_of_the_library_does_not_import_what_the_stage_left(tmp_path: Path):
    (tmp_path / "colorsys.py").write_text("print('planted')")
    code = "import colorsys\nassert hasattr(colorsys, 'hls_to_rgb') == ('package' in __file__)"
    async with LocalSandbox(preload=()).open(BoxSpec(workdir=tmp_path, trusted=True)) as box:
        assert (await run_in(box, code, tmp_path)).exit_code == 0
        assert (await run_in(box, code, tmp_path.parent / "package")).exit_code == 0
