import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED_EXTRAS = ("lab", "postgres", "ml")


def requirements() -> Iterator[Requirement]:
    groups = PROJECT["dependency-groups"]
    extras = PROJECT["project"]["optional-dependencies"]
    yield from map(Requirement, PROJECT["project"]["dependencies"])
    for extra in LOCKED_EXTRAS:
        yield from map(Requirement, extras[extra])
    for items in groups.values():
        yield from (Requirement(item) for item in items if isinstance(item, str))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that was built from the tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        return set(archive.namelist())


def test_the_lock_holds_what_the_project_asks_for() -> None:
    pins: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK, re.MULTILINE):
        pins.setdefault(canonicalize_name(name), []).append(version)
    unmet = [
        str(wanted)
        for wanted in requirements()
        if not any(map(wanted.specifier.contains, pins.get(canonicalize_name(wanted.name), [])))
    ]
    assert unmet == [], "run 'make lock'"


def test_every_pin_has_hashes() -> None:
    blocks = re.split(r"^(?=\w)", LOCK, flags=re.MULTILINE)
    assert [block for block in blocks if "==" in block and "--hash=sha256:" not in block] == []


def test_the_lock_names_no_address() -> None:
    assert "://" not in LOCK


def test_the_installed_version_is_the_one_in_the_project_file() -> None:
    assert importlib.metadata.version("trainable-lab") == PROJECT["project"]["version"]


def test_the_wheel_carries_everything_that_is_in_the_packages(wheel: set[str]) -> None:
    tree = {
        path.relative_to(top).as_posix()
        for top in (ROOT, ROOT / "jupyter_ext")
        for path in top.glob("trainable*/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"trainable/py.typed", "trainable_jupyter/py.typed"} <= tree
    assert tree - wheel == set()


def test_the_wheel_carries_nothing_but_the_packages(wheel: set[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {
        "trainable",
        "trainable_jupyter",
        "trainable_lab",
    }
