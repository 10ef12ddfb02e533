"""Which walls work on this machine, found out by putting a program behind each."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainable.errors import InputError, IsolationUnavailable
from trainable.sandbox import confine
from trainable.sandbox.base import BoxSpec
from trainable.sandbox.launch import Level, Walls, find_bubblewrap

LEVELS: tuple[Level, ...] = ("bubblewrap", "namespaces", "landlock")
"""Best first."""
PROBE_SECONDS = 20.0
REMEDY = (
    "Install bubblewrap, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1 or "
    "an AppArmor profile; in a container, its seccomp profile), or run on a kernel with Landlock "
    'as an ordinary user. Otherwise use agent="playbook", or pass isolation="none" to run the '
    "code with your rights."
)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What came of trying a level."""

    reason: str | None = None
    """Why it does not work; None when it does."""
    missing: tuple[str, ...] = ()
    """Guarantees that the level does not give."""


NOTHING = Probe(missing=("files", "network", "memory", "processes", "disk"))


def check_name(wanted: str | None) -> None:
    """Refuse a level that there is not.

    Raises:
        InputError: There is none of that name.
    """
    if wanted not in (None, "none", *LEVELS):
        names = ", ".join(repr(level) for level in LEVELS)
        raise InputError(
            f"isolation={wanted!r} is not known.",
            remedy=f'Leave it out, use one of {names}, or "none" to run without walls.',
        )


def choose_level(wanted: str | None, *, trusted: bool) -> tuple[Level, Probe]:
    """Return the level to use: the one wanted, else the best that works.

    Args:
        wanted: A level by its name, `"none"`, or None for the best.
        trusted: Whether the code may run without isolation where no level works.

    Raises:
        IsolationUnavailable: None works, or not the one wanted.
    """
    check_name(wanted)
    if wanted == "none":
        return "none", NOTHING
    levels: list[Level] = [level for level in LEVELS if wanted in (None, level)]
    reasons: list[str] = []
    for level in levels:
        found = probe(level)
        if found.reason is None:
            return level, found
        reasons.append(f"{level}: {found.reason}")
    if trusted and wanted is None:
        return "none", NOTHING
    raise IsolationUnavailable(
        f"Nothing here can wall in code that a model wrote ({'; '.join(reasons)}).", remedy=REMEDY
    )


@functools.cache
def probe(level: Level) -> Probe:
    """Put a program behind the walls of this level; the answer is kept for this process."""
    if sys.platform != "linux":
        return Probe(reason="needs Linux")
    if level == "bubblewrap" and find_bubblewrap() is None:
        return Probe(reason="bwrap is not installed")
    if level == "landlock" and os.getuid() == 0:
        return Probe(reason="cannot hold root; run Trainable as an ordinary user")
    with tempfile.TemporaryDirectory(prefix="trainable-") as name:
        folder = Path(name)
        for part in ("home", "root", "sdk", "tmp", "work"):
            (folder / part).mkdir()
        walls = Walls(level, BoxSpec(workdir=folder / "work"), folder)
        return _run(walls)


def _run(walls: Walls) -> Probe:
    walls.write_files()
    walls.share_files()
    config = json.dumps(walls.confinement())
    command = walls.command([sys.executable, "-I", "-S", confine.__file__, config])
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            env={},
            check=False,
        )
        answer = json.loads(ended.stdout or "{}")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return Probe(reason=str(error))
    if "held" not in answer:
        said = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Probe(reason=answer.get("failed") or said or f"exit code {ended.returncode}")
    if walls.mapped:
        return Probe() if answer["held"] == 1 else Probe(reason="no process namespace of its own")
    signals = () if answer["landlock"] >= 6 else ("signals",)
    return Probe(missing=("file names", "shared memory", *signals))
