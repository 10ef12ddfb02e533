"""What `trainable doctor` finds, and what it leaves alone."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trainable.cli import app
from trainable.cli.check import (
    Check,
    check_names,
    check_packages,
    check_sandbox,
    check_store,
    check_volume,
)
from trainable.cli.doctor import verdict
from trainable.errors import SandboxError
from trainable.sandbox.base import BoxInfo, BoxSpec, CodeResult, Output, Push, Record
from trainable.settings import Settings


class ScriptedBox:
    """A box in which the probe prints what a test wants."""

    def __init__(self, printed: str, missing: tuple[str, ...]) -> None:
        self.info = BoxInfo(backend="scripted", isolation="walls", missing=missing, limits={})
        self._printed = printed

    async def run_code(self, code: str, *, script: Path, timeout: float, push: Push) -> CodeResult:
        await push(Record("metrics", [1, {"packages": 1.0}, None]))
        await push(Output("stdout", self._printed))
        return CodeResult(exit_code=0, seconds=0.1)


class ScriptedSandbox:
    """A sandbox that opens a `ScriptedBox`, or cannot."""

    name = "scripted"

    def __init__(
        self, printed: str = "", *, missing: tuple[str, ...] = (), opens: bool = True
    ) -> None:
        self._printed, self._missing, self._opens = printed, missing, opens

    @asynccontextmanager
    async def open(self, spec: BoxSpec) -> AsyncIterator[ScriptedBox]:
        if not self._opens:
            raise SandboxError("No box today.", remedy="Come back tomorrow.")
        yield ScriptedBox(self._printed, self._missing)


FOUND = json.dumps({"versions": {"numpy": "2.0", "pandas": "3.0"}, "broken": {}})


@pytest.fixture
def file_as_home(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TRAINABLE_HOME in which nobody, not even root, can make a folder."""
    path = own_home / "file"
    path.touch()
    monkeypatch.setenv("TRAINABLE_HOME", str(path / "trainable"))
    return path


def test_on_this_machine_the_demo_would_work() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    checks = [Check(**found) for found in json.loads(result.stdout)]
    states = {check.check: check.state for check in checks}
    assert result.exit_code == 0
    assert (
        states.items() >= {"Python": "ok", "Store": "ok", "Volume": "ok", "Packages": "ok"}.items()
    )
    assert [states[name] for name in ("Claude", "Modal", "S3")] == ["absent"] * 3


def test_a_home_that_cannot_be_written_to_is_exit_code_3(file_as_home: Path) -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 3
    assert "✗   Store" in result.stdout and "✗   Volume" in result.stdout
    assert "Set TRAINABLE_HOME" in result.stdout and "Not ready" in result.stdout


def test_the_checks_leave_nothing_behind(own_home: Path) -> None:
    settings = Settings()
    assert check_store(settings).state == "ok"
    before = {path.name for path in settings.root.iterdir()}
    assert check_store(settings).state == check_volume(settings).state == "ok"
    assert {path.name for path in settings.root.iterdir()} == {*before, "volume"}
    assert list(settings.volume_root.iterdir()) == []


def test_a_foreign_package_of_the_same_import_name_is_named() -> None:
    assert list(check_names(["trainable-lab", "Trainable_Lab"])) == []
    (found,) = check_names(["trainable-lab", "trainable"])
    assert found.state == "warning" and "'trainable'" in found.detail
    assert "pip install trainable" not in found.remedy


def test_a_sandbox_with_walls_is_fine() -> None:
    sandbox, packages = check_sandbox(ScriptedSandbox(FOUND))
    assert (sandbox.state, packages.state) == ("ok", "ok")
    assert packages.detail == "numpy 2.0, pandas 3.0"


def test_missing_guarantees_are_listed() -> None:
    sandbox, _ = check_sandbox(ScriptedSandbox(FOUND, missing=("files", "network")))
    assert sandbox.state == "warning" and "files and network" in sandbox.remedy


def test_a_sandbox_that_cannot_open_says_what_to_do() -> None:
    (sandbox,) = check_sandbox(ScriptedSandbox(opens=False))
    assert (sandbox.state, sandbox.detail) == ("failed", "No box today.")
    assert sandbox.remedy == "Come back tomorrow."


def test_a_probe_that_prints_nonsense_is_a_failure() -> None:
    (sandbox,) = check_sandbox(ScriptedSandbox("nonsense"))
    assert sandbox.state == "failed"


def test_a_package_that_cannot_be_imported_is_a_failure() -> None:
    found = check_packages({"versions": {}, "broken": {"lightgbm": "libgomp.so.1: no such file"}})
    assert found.state == "failed"
    assert "lightgbm: libgomp.so.1" in found.detail and "libgomp1" in found.remedy


def test_the_verdict_counts_what_is_not_right() -> None:
    checks = [Check(check="a", state=state, detail="") for state in ("ok", "warning", "warning")]
    assert verdict(checks).plain == "Ready: trainable demo works now. 2 warnings."
    failed = Check(check="b", state="failed", detail="")
    assert verdict([*checks, failed]).plain == (
        "Not ready: trainable demo would fail. 1 problem, 2 warnings."
    )
