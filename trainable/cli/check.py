"""The checks of `trainable doctor`: each says what it found and what to do about it."""

import asyncio
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainable.cli import probe
from trainable.cli.text import clean_line, count, size_of, tilde
from trainable.errors import SandboxError, TrainableError
from trainable.sandbox.base import BoxInfo, BoxSpec, Changed, Output, Record, Sandbox
from trainable.sandbox.isolation import LEVELS, REMEDY
from trainable.sandbox.isolation import probe as probe_level
from trainable.settings import Settings
from trainable.storage.database import Database

DISTRIBUTION = "trainable-lab"
OPTIONAL = ("xgboost", "category_encoders", "pandera", "skops")
SHOWN = ("numpy", "pandas", "sklearn", "lightgbm", "optuna", "shap")
ROOM = 500_000_000
"""Free bytes below which a session may not fit."""
PROBE_SECONDS = 180.0
HOME_REMEDY = "Set TRAINABLE_HOME to a folder that you may write to."
Packages = dict[str, dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check found."""

    check: str
    state: Literal["ok", "warning", "failed", "absent"]
    detail: str
    remedy: str = ""


def check_names(distributions: Iterable[str]) -> Iterator[Check]:
    """Complain about other distributions that install the import name `trainable`.

    Args:
        distributions: Names of the distributions that provide it.
    """
    foreign = {name for name in distributions if name.lower().replace("_", "-") != DISTRIBUTION}
    for name in sorted(foreign):
        yield Check(
            check="Names",
            state="warning",
            detail=f"the package {name!r} installs files under the same import name",
            remedy=f"Uninstall {name!r}, then reinstall {DISTRIBUTION!r}.",
        )


def check_store(settings: Settings) -> Check:
    """Open the database, and write beside it."""
    try:
        with closing(Database.open(settings.store_url)) as database:
            sessions = len(database.sessions())
        with tempfile.NamedTemporaryFile(dir=settings.root) as probe_file:
            probe_file.write(b"probe")
    except (TrainableError, OSError) as error:
        return _failed("Store", error)
    where = "DATABASE_URL" if settings.database_url else tilde(settings.root / "trainable.db")
    return Check(check="Store", state="ok", detail=f"{where}, {count(sessions, 'session')}")


def check_volume(settings: Settings) -> Check:
    """Write, read and delete a file where the stages' files go, and look at the space."""
    root = settings.volume_root
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root) as probe_file:
            probe_file.write(b"probe")
            probe_file.flush()
            if Path(probe_file.name).read_bytes() != b"probe":
                raise OSError(f"{root} gives back other bytes than were written")
        free = shutil.disk_usage(root).free
    except OSError as error:
        return _failed("Volume", error)
    detail = f"{tilde(root)}, {size_of(free)} free"
    if free < ROOM:
        remedy = "Make room, or set TRAINABLE_HOME to a folder on another disk."
        return Check(check="Volume", state="warning", detail=detail, remedy=remedy)
    return Check(check="Volume", state="ok", detail=detail)


def check_isolation() -> Check:
    """Put a program behind each kind of walls; one that holds is enough."""
    reasons = {level: probe_level(level).reason for level in LEVELS}
    detail = "; ".join(f"{level}: {reason or 'works'}" for level, reason in reasons.items())
    if None in reasons.values():
        return Check(check="Isolation", state="ok", detail=detail)
    return Check(check="Isolation", state="warning", detail=detail, remedy=REMEDY)


def check_sandbox(sandbox: Sandbox) -> Iterator[Check]:
    """Run a step, and look at how it is isolated and at the packages that it finds."""
    script = Path(probe.__file__)
    try:
        info, found = asyncio.run(_probe(sandbox, script, script.read_text("utf-8")))
    except (TrainableError, OSError) as error:
        yield _failed("Sandbox", error)
        return
    if info.missing:
        yield Check(
            check="Sandbox",
            state="warning",
            detail=f"{sandbox.name}, isolation {info.isolation}: a step ran, printed and logged",
            remedy=f"It does not guard {_listed(info.missing)}"
            + (", so it runs the built-in playbook only." if info.isolation == "none" else "."),
        )
    else:
        detail = f"{sandbox.name}, isolation {info.isolation}: a step ran, printed and logged"
        yield Check(check="Sandbox", state="ok", detail=detail)
    yield check_packages(found)


def check_extras() -> Check:
    """Look which optional packages are installed."""
    found = {name: _version(name) for name in OPTIONAL}
    there = [f"{name} {version}" for name, version in found.items() if version]
    gone = [name for name, version in found.items() if version is None]
    if not gone:
        return Check(check="Extras", state="ok", detail=", ".join(there))
    detail = ", ".join([*there, f"without {_listed(gone)}"])
    remedy = f"Optional: install {DISTRIBUTION}[ml]."
    return Check(check="Extras", state="absent", detail=detail, remedy=remedy)


async def _probe(sandbox: Sandbox, script: Path, code: str) -> tuple[BoxInfo, Packages]:
    """Run the probe; return what the box is and what the probe printed."""
    printed: list[str] = []
    logged: list[Any] = []

    async def push(item: Output | Record | Changed) -> None:
        if isinstance(item, Output) and item.stream == "stdout":
            printed.append(item.text)
        elif isinstance(item, Record):
            logged.append(item.data)

    with tempfile.TemporaryDirectory(prefix="trainable-") as folder:
        spec = BoxSpec(workdir=Path(folder), preload=(), trusted=True)
        async with sandbox.open(spec) as box:
            result = await box.run_code(code, script=script, timeout=PROBE_SECONDS, push=push)
            info = box.info
    if result.exit_code or not printed or not logged:
        raise SandboxError(
            f"A step that prints and logs ended with exit code {result.exit_code}.",
            remedy="Try again; if it stays so, reinstall the packages.",
        )
    try:
        found = json.loads("".join(printed))
        return info, {"versions": dict(found["versions"]), "broken": dict(found["broken"])}
    except (ValueError, TypeError, KeyError):
        raise SandboxError(
            "A step printed something else than it was told to.",
            remedy="Try again; if it stays so, reinstall the packages.",
        ) from None


def check_packages(found: Packages) -> Check:
    """Look whether everything that the playbook imports can be imported.

    Args:
        found: The `versions` of packages, and why others are `broken`.
    """
    versions, broken = found["versions"], found["broken"]
    if broken:
        reasons = "; ".join(f"{name}: {clean_line(why)}" for name, why in broken.items())
        return Check(
            check="Packages",
            state="failed",
            detail=f"cannot be imported: {reasons}",
            remedy=f"Reinstall {DISTRIBUTION}. On Debian and Ubuntu, lightgbm also needs libgomp1.",
        )
    shown = [f"{name} {versions[name]}" for name in SHOWN if name in versions]
    more = [f"{len(versions) - len(shown)} more"] if len(versions) > len(shown) else []
    return Check(check="Packages", state="ok", detail=", ".join([*shown, *more]))


def _failed(check: str, error: TrainableError | OSError) -> Check:
    if isinstance(error, TrainableError):
        return Check(check=check, state="failed", detail=error.text, remedy=error.remedy)
    return Check(check=check, state="failed", detail=str(error), remedy=HOME_REMEDY)


def _version(distribution: str) -> str | None:
    for name in (distribution, f"{distribution}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
