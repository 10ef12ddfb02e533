"""Every test runs with a home of its own and without the user's accounts."""

import os
from pathlib import Path

import pytest

from tests.support.environment import private_names


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all homes share: matplotlib's list of fonts takes seconds to make."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Path:
    """Hide the user's credentials and sessions; `tmp_path` itself stays empty."""
    for name in private_names():
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    (home / "trainable").mkdir()
    (home / "trainable/cache").symlink_to(cache)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TRAINABLE_HOME", str(home / "trainable"))
    monkeypatch.setenv("MPLCONFIGDIR", str(cache / "matplotlib"))
    return home


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI nothing may be skipped: a test that did not run proves nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
