"""Who runs a session: the right to do so, and how to tell that its holder is gone."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT = 2.0
"""Seconds between two extensions of a lease."""
EXPIRY = 15.0
"""Seconds without an extension after which a lease may be taken over."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to write to a session's log as its runner, until another takes it over."""

    session_id: str
    run_id: str
    owner: str
    epoch: int
    """Rises each time the lease changes hands, so that an old holder is recognized."""


@dataclass(frozen=True, kw_only=True)
class _Process:
    started: str
    """Clock ticks since boot; a process that got the same number later has another value."""
    state: str
    """As in `/proc`: `T` is stopped, `Z` is dead but not yet collected."""


def this_owner() -> str:
    """Return the name of this process, unlike that of any other: host, boot, pid and start."""
    pid = os.getpid()
    process = _process(pid)
    return f"{_host()}:{_boot_id()}:{pid}:{process.started if process else ''}"


def owner_is_dead(owner: str, *, expired: bool) -> bool:
    """Say whether the process named `owner` cannot be running its session any more.

    On its own machine a process is looked at, so that neither a long pause of a laptop nor a
    change of the clock ends its run. Where it can't be looked at, or was stopped by a signal,
    `expired`, whether its lease has run out, decides.
    """
    host, boot_id, pid, started = (owner.split(":") + [""] * 4)[:4]
    if host != _host() or not pid.isdigit():
        return expired
    if boot_id != _boot_id():
        return True
    process = _process(int(pid))
    if process is None or process.state in "ZX" or process.started != started:
        return True
    return expired and process.state in "Tt"


def _host() -> str:
    """Name the machine and, for containers that share it, the space its process ids are from."""
    try:
        space = Path("/proc/self/ns/pid").readlink().name.removeprefix("pid:").strip("[]")
    except OSError:
        space = ""
    return f"{socket.gethostname().replace(':', '_')}/{space}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _process(pid: int) -> _Process | None:
    try:
        # The name of the program comes second, in parentheses, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return _Process(started="", state="R") if _answers(pid) else None
    return _Process(started=fields[19], state=fields[0])


def _answers(pid: int) -> bool:
    """Say whether the process exists, on a system without `/proc`."""
    if Path("/proc/self/stat").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
