"""Measures what a step uses, for the driver to end it at a limit.

Standard library only: the driver loads this file by its path, inside the box. Memory and threads
are summed over all processes of the step; what it holds in files that it has unlinked counts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from typing import Any

PAGE, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
PROCESS_SECONDS, DISK_SECONDS = 0.1, 0.25
SHARE = 5
"""A look that takes long is repeated after this many times as long at the earliest."""
FULL = 0.97
HIDDEN = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)


class Watch:
    """One step's use, compared with its limits."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Start to watch.

        Args:
            config: `limits` (see `trainable.sandbox.limits.Limits`), `folders` on a disk that the
                step may write to, and `temporary`, mount points in memory with their own size.
        """
        self._limits: dict[str, float] = config["limits"]
        self._folders: list[str] = config["folders"]
        self._temporary: list[str] = config["temporary"]
        self._next_processes = self._next_disk = 0.0
        self._cpu_before, self._disk_before = 0.0, 0
        self._hidden: set[int] = set()
        self.begin()

    def begin(self) -> None:
        """Note that a step starts now."""
        now = time.monotonic()
        self._next_processes, self._next_disk = now + PROCESS_SECONDS, now + DISK_SECONDS
        self._cpu_before, self._disk_before = _cpu_of_ended_children(), _used(self._folders[0])

    @property
    def due(self) -> float:
        """When to look again, in monotonic time."""
        return min(self._next_processes, self._next_disk)

    def exceeded(self) -> str | None:
        """Return the name of a limit that the step is over, None when there is none."""
        found = None
        started = time.monotonic()
        if started >= self._next_processes:
            found = self._look_at_processes()
            took = time.monotonic() - started
            self._next_processes = started + max(PROCESS_SECONDS, SHARE * took)
        if found is None and started >= self._next_disk:
            found = self.look_at_disk()
            took = time.monotonic() - started
            self._next_disk = started + max(DISK_SECONDS, SHARE * took)
        return found

    def look_at_disk(self) -> str | None:
        """Compare files with their limits, now."""
        used = 0
        for entries, (size, blocks) in enumerate(self._files(), 1):
            used += blocks
            if entries > self._limits["inodes"]:
                return "inodes"
            if used > self._limits["disk"] or size < 0:
                return "disk"
            if size >= self._limits["file_size"]:
                return "file_size"
        grown = _used(self._folders[0]) - self._disk_before
        if grown > self._limits["disk"] and any(map(_maps_unlinked, _step_processes())):
            return "disk"
        for usage in map(os.statvfs, self._temporary):
            if usage.f_bavail < (1 - FULL) * usage.f_blocks:
                return "disk"
            if usage.f_files and usage.f_ffree < (1 - FULL) * usage.f_files:
                return "inodes"
        return None

    def _look_at_processes(self) -> str | None:
        threads = memory = 0
        cpu = _cpu_of_ended_children() - self._cpu_before
        pids = _step_processes()
        for pid in pids:
            with contextlib.suppress(OSError, IndexError):
                fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
                cpu += sum(map(int, fields[11:15])) / TICKS
                threads += int(fields[17])
                resident, shared = _read(f"/proc/{pid}/statm").split()[1:3]
                memory += (int(resident) - int(shared)) * PAGE
        if threads > self._limits["processes"]:
            return "processes"
        if cpu > (self._limits.get("cpu") or float("inf")):
            return "cpu"
        in_files = sum(map(_used, self._temporary))
        most = self._limits["memory"]
        if memory + in_files > most and sum(map(_memory_of, pids)) + in_files > most:
            return "memory"
        return None

    def _files(self) -> Iterator[tuple[int, int]]:
        """Yield the size of each file and the bytes that it takes; a negative size is hidden."""
        todo = list(self._folders)
        while todo:
            folder = todo.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
                        with contextlib.suppress(FileNotFoundError):
                            found = entry.stat(follow_symlinks=False)
                            size = found.st_size if entry.is_file(follow_symlinks=False) else 0
                            yield size, found.st_blocks * 512
            except OSError as error:
                if error.errno in HIDDEN:
                    yield -1, 0
        hidden, self._hidden = self._hidden, set()
        for pid in _step_processes():
            try:
                yield from _unlinked(pid)
            except PermissionError:
                self._hidden.add(pid)  # any process is that, for a moment, when it starts
                if pid in hidden:
                    yield -1, 0


def _unlinked(pid: int) -> Iterator[tuple[int, int]]:
    """Yield size and bytes of the files that the process holds open and that have no name."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(f"{folder}/{name}")
                if found.st_nlink == 0 and found.st_mode & 0o170000 == 0o100000:
                    yield found.st_size, found.st_blocks * 512


def _maps_unlinked(pid: int) -> bool:
    """Whether the process has a file on a disk mapped that has no name any more."""
    with contextlib.suppress(OSError):
        for line in _read(f"/proc/{pid}/maps").splitlines():
            if line.endswith(" (deleted)") and not line.split()[3].startswith("00:"):
                return True
    return False


def _used(folder: str) -> int:
    usage = os.statvfs(folder)
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def _step_processes() -> list[int]:
    """Return the processes of the step: all others of the box, or those that descend from here."""
    me = os.getpid()
    if me == 1:
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
    found: list[int] = []
    todo = [me]
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                children = _read(f"/proc/{pid}/task/{thread}/children").split()
                todo += map(int, children)
                found += map(int, children)
    return found


def _memory_of(pid: int) -> int:
    """Return the process's share of memory; pages that several have are divided among them."""
    try:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
        return 0
    except PermissionError:  # it hides: count all that it has
        resident, shared = _read(f"/proc/{pid}/statm").split()[1:3]
        return (int(resident) - int(shared)) * PAGE
    except OSError:
        return 0


def _cpu_of_ended_children() -> float:
    used = os.times()
    return used.children_user + used.children_system


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
