"""Runs one stage's code: imports the data-science stack once, then forks for each step.

Standard library only: the same file runs as a child process of the host and inside a container.
It talks to the host in lines of JSON over the descriptor given as its first argument and never
runs an OpenMP region itself, since children forked after one would hang.

Host to driver: `{"run": code, "script": path, "timeout": seconds}` and `{"kill": true}`. Driver
to host: `{"k": "ready", "failed": [...]}` once, then for a step any number of `o` (stdout), `e`
(stderr), `r` (record lines) and `f` (changed file) frames and one `end`.
When the host's end is closed, everything that was started is killed and the driver ends.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import fcntl
import importlib
import json
import linecache
import os
import selectors
import signal
import socket
import sys
import time
import types
from pathlib import Path
from typing import Any

STACK = (
    *("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "joblib", "lightgbm"),
    *("matplotlib.pyplot", "sklearn.calibration", "sklearn.compose", "sklearn.ensemble"),
    *("sklearn.feature_extraction.text", "sklearn.feature_selection", "sklearn.impute"),
    *("sklearn.inspection", "sklearn.linear_model", "sklearn.model_selection"),
    *("sklearn.pipeline", "sklearn.preprocessing"),
)
"""Imported before the first step; anything else is imported by the step that needs it."""
CHUNK = 65536
HIGH_WATER = 4 << 20
"""Bytes waiting for the host above which the step's output is not read any more."""
RECORDS_FD = 200
"""Above what a program opens by itself, so that a closed one is not mistaken for a file."""
NAP_SECONDS = 0.002
"""Pause after output was read: it gathers in the pipe meanwhile, and costs a tenth to pass on."""
WALK_SECONDS = 0.25
MAX_FILES = 10_000
GRACE_SECONDS = 2.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Files:
    """Notices files that a step writes below `root`; names are looked at, contents never."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._seen: dict[str, tuple[int, int]] = {}
        self.changed(settled_ns=0)

    def changed(self, settled_ns: int) -> list[tuple[str, int]]:
        """Return `(path, size)` of files written since the last call, `settled_ns` ago or more."""
        found: list[tuple[str, int]] = []
        limit = time.time_ns() - settled_ns
        for path, size, modified in self._walk():
            if self._seen.get(path) != (size, modified) and modified <= limit:
                self._seen[path] = (size, modified)
                found.append((path, size))
        return sorted(found)

    def _walk(self) -> list[tuple[str, int, int]]:
        todo, found = [""], list[tuple[str, int, int]]()
        while todo and len(found) < MAX_FILES:
            folder = todo.pop()
            with contextlib.suppress(OSError), os.scandir(f"{self._root}/{folder}") as entries:
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    if path == "scripts" or entry.name.startswith((".", "__pycache__")):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(f"{path}/")
                    elif entry.is_file(follow_symlinks=False):
                        about = entry.stat(follow_symlinks=False)
                        found.append((path, about.st_size, about.st_mtime_ns))
        return found


class Step:
    """One forked child and its pipes."""

    def __init__(self, code: str, script: str, timeout: float) -> None:
        self.started = time.monotonic()
        self.deadline = self.started + timeout
        self.timed_out = False
        self.killed_at: float | None = None
        self.exit_code: int | None = None
        reads, writes = zip(*(os.pipe() for _ in range(3)), strict=True)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become_step(code, script, writes)
        for descriptor in writes:
            os.close(descriptor)
        self.pipes = dict(zip(reads, "oer", strict=True))
        self.decoders = {
            descriptor: codecs.getincrementaldecoder("utf-8")("replace") for descriptor in reads
        }
        self.partial_record = ""


class Driver:
    """The loop between the host and the current step."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._incoming, self._outgoing = b"", bytearray()
        self._step: Step | None = None
        self._listening = False
        self._nap = 0.0
        self._files = Files(".")
        self._next_walk = 0.0
        self._selector = selectors.DefaultSelector()
        wake_read, wake_write = os.pipe()
        for descriptor in (wake_read, wake_write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_up)
        channel.setblocking(False)
        self._selector.register(channel, selectors.EVENT_READ, self._on_host)
        self._selector.register(wake_read, selectors.EVENT_READ, _drain)

    def serve(self, failed: list[str]) -> None:
        """Work until the host closes its end."""
        self._send(k="ready", failed=failed)
        while True:
            time.sleep(self._nap)
            self._nap = 0.0
            for key, mask in self._selector.select(self._wait_seconds()):
                if mask & selectors.EVENT_WRITE:
                    self._flush()
                if mask & selectors.EVENT_READ:
                    key.data(key.fd)
            if self._step is not None:
                self._look_after(self._step)

    def _wait_seconds(self) -> float | None:
        if self._step is None:
            return None
        running = self._step.killed_at is None
        until = min(self._next_walk, self._step.deadline) if running else self._next_walk
        return max(0.0, until - time.monotonic())

    def _on_host(self, _: int) -> None:
        try:
            data = self._channel.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            kill_descendants()
            os._exit(0)
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "run" in request:
                self._start(Step(request["run"], request["script"], request["timeout"]))
            elif self._step is not None:
                self._kill(self._step)

    def _start(self, step: Step) -> None:
        self._step = step
        self._next_walk = time.monotonic() + WALK_SECONDS
        self._listening = False
        self._listen_to_step(listen=True)

    def _on_output(self, descriptor: int) -> None:
        step = self._step
        if step is None:
            return
        data = os.read(descriptor, CHUNK)
        self._nap = NAP_SECONDS
        kind = step.pipes[descriptor]
        text = step.decoders[descriptor].decode(data, final=not data)
        if kind == "r":
            whole, _, step.partial_record = (step.partial_record + text).rpartition("\n")
            text = whole and whole + "\n"
        if text:
            self._send(k=kind, d=text)
        if not data:
            self._close(step, descriptor)

    def _close(self, step: Step, descriptor: int) -> None:
        if self._listening:
            self._selector.unregister(descriptor)
        os.close(descriptor)
        del step.pipes[descriptor]

    def _look_after(self, step: Step) -> None:
        now = time.monotonic()
        if now >= step.deadline and step.killed_at is None and step.exit_code is None:
            step.timed_out = True
            self._kill(step)
        self._reap(step)
        if now >= self._next_walk:
            self._report_files(settled_ns=100_000_000)
            self._next_walk = now + WALK_SECONDS
        stuck = step.killed_at is not None and now > step.killed_at + GRACE_SECONDS
        if step.exit_code is not None and (not step.pipes or stuck):
            self._finish(step)

    def _reap(self, step: Step) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == step.pid:
                    step.exit_code = os.waitstatus_to_exitcode(status)
                    self._kill(step)  # what the step left running

    def _kill(self, step: Step) -> None:
        step.killed_at = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(step.pid, signal.SIGKILL)
        kill_descendants()

    def _finish(self, step: Step) -> None:
        for descriptor in list(step.pipes):
            self._close(step, descriptor)
        self._report_files(settled_ns=0)
        seconds = time.monotonic() - step.started
        self._step = None
        self._send(k="end", code=step.exit_code, seconds=seconds, timed_out=step.timed_out)

    def _report_files(self, settled_ns: int) -> None:
        for path, size in self._files.changed(settled_ns):
            self._send(k="f", d=path, size=size)

    def _send(self, **frame: Any) -> None:
        self._outgoing += json.dumps(frame).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._outgoing:
                sent = self._channel.send(self._outgoing[:CHUNK])
                del self._outgoing[:sent]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        self._selector.modify(self._channel, events, self._on_host)
        self._listen_to_step(len(self._outgoing) < HIGH_WATER)

    def _listen_to_step(self, listen: bool) -> None:
        """Read the step's pipes, or leave them so that it waits for a slow host."""
        if listen == self._listening or self._step is None:
            return
        self._listening = listen
        for descriptor in self._step.pipes:
            if listen:
                self._selector.register(descriptor, selectors.EVENT_READ, self._on_output)
            else:
                self._selector.unregister(descriptor)


def _wake_up(_number: int, _frame: object) -> None:
    """Let a signal end the wait of `select`, by the wake-up descriptor."""


def _drain(descriptor: int) -> None:
    os.read(descriptor, 512)


def kill_descendants() -> None:
    """Kill every descendant of this process, those that left their group included (Linux)."""
    for _ in range(20):
        children = descendants(os.getpid())
        for pid in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not children:
            return
        time.sleep(0.005)


def descendants(top: int) -> list[int]:
    """Return the ids of the running processes below `top`; none where there is no /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found, grew = {top}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return sorted(found - {top})


def _become_step(code: str, script: str, writes: tuple[int, ...]) -> None:
    """Turn the forked child into a fresh interpreter that runs `code`, and end with it."""
    exit_code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(writes[0], 1)
        os.dup2(writes[1], 2)
        records = fcntl.fcntl(writes[2], fcntl.F_DUPFD, RECORDS_FD)
        os.closerange(3, RECORDS_FD)
        os.set_inheritable(records, True)
        os.environ["TRAINABLE_RECORDS"] = str(records)
        for number, name in ((1, "stdout"), (2, "stderr")):
            stream = open(  # noqa: SIM115  # lives as long as the process
                number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
            )
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        exit_code = _run_main(code, script)
    finally:
        _leave(exit_code)


def _run_main(code: str, script: str) -> int:
    main = types.ModuleType("__main__")
    main.__file__ = script
    sys.modules["__main__"] = main
    sys.argv = [script]
    sys.dont_write_bytecode = True  # modules of the stage would leave compiled files beside them
    sys.path.insert(1, str(Path.cwd()))  # after the folder of the SDK
    try:
        linecache.cache[script] = (len(code), None, code.splitlines(keepends=True), script)
        exec(compile(code, script, "exec"), main.__dict__)  # noqa: S102  # its whole purpose
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)  # noqa: T201
        return 1
    except BaseException as error:  # noqa: BLE001  # reported as Python itself would
        import traceback

        frames = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, frames)
        return 1
    return 0


def _leave(exit_code: int) -> None:
    """End as an interpreter does: threads joined, exit handlers run, streams flushed."""
    import atexit
    import threading

    with contextlib.suppress(BaseException):
        threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(exit_code)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _preload(names: list[str]) -> list[str]:
    failed: list[str] = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            failed.append(name)
    return failed


def main() -> None:
    """Serve the host on the descriptor in `argv[1]`; `argv[2]` holds the names to import."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    names: list[str] = json.loads(sys.argv[2])
    Driver(channel).serve(_preload(names))


if __name__ == "__main__":
    main()
