"""Runs one stage's code: imports the data-science stack once, then forks for each step.

Standard library only: the same file runs as a child process of the host and inside a container.
It never runs an OpenMP region itself, since children forked after one would hang.

Host and driver talk in lines of JSON over a descriptor. Host to driver: `{"run": code, "script":
path, "timeout": seconds}` and `{"kill": true}`. Driver to host: `{"k": "ready", "failed": [...]}`
once, then for a step any number of `o` (stdout), `e` (stderr), `r` (record lines) and `f` (changed
file) frames and one `end`, which names the limit that ended the step. Limits other than time and
output need `watch.py` and `confine.py`. When the host's end is closed, everything ends.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import ctypes
import fcntl
import importlib
import json
import linecache
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
import types
from pathlib import Path
from typing import Any

CHUNK, MAX_FILES = 65536, 10_000
HIGH_WATER = 4 << 20
"""Bytes waiting for the host above which the step's output is not read any more."""
RECORDS_FD = 200
"""Above what a program opens by itself, so that a closed one is not mistaken for a file."""
NAP_SECONDS = 0.002  # after output was read: more gathers, and costs a tenth to pass on
WALK_SECONDS, GRACE_SECONDS = 0.25, 2.0
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
LIMIT_OF_SIGNAL = {-signal.SIGXCPU: "cpu", -signal.SIGXFSZ: "file_size"}
OUT_OF_MEMORY = "!memory\n"  # what a step records when an allocation failed


class Files:
    """Notices files that a step writes below `root`; names are looked at, contents never."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._seen: dict[str, tuple[int, int]] = {}
        self.changed(settled_ns=0)

    def changed(self, settled_ns: int) -> list[tuple[str, int]]:
        """Return `(path, size)` of files written since the last call, `settled_ns` ago or more."""
        found: list[tuple[str, int]] = []
        for path, size, modified in self._walk():
            if self._seen.get(path) != (size, modified) and modified <= time.time_ns() - settled_ns:
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
                    hidden = path == "scripts" or entry.name.startswith((".", "__pycache__"))
                    if hidden or not entry.name.isprintable() or "\\" in entry.name:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(f"{path}/")
                    elif entry.is_file(follow_symlinks=False):
                        about = entry.stat(follow_symlinks=False)
                        found.append((path, about.st_size, about.st_mtime_ns))
        return found


class Step:
    """One forked child and its pipes."""

    def __init__(self, request: dict[str, Any], confinement: Any, watch: Any) -> None:
        self.started = time.monotonic()
        self.deadline = self.started + request["timeout"]
        self.limit: str | None = None
        self.printed = 0
        self.killed_at: float | None = None
        self.exit_code: int | None = None
        reads, writes = zip(*(os.pipe() for _ in range(3)), strict=True)
        if watch is not None:
            watch.begin()
        self.pid = os.fork()
        if self.pid == 0:
            _become_step(request["run"], request["script"], writes, confinement)
        for descriptor in writes:
            os.close(descriptor)
        self.pipes = dict(zip(reads, "oer", strict=True))
        make = codecs.getincrementaldecoder("utf-8")
        self.decoders = {descriptor: make("replace") for descriptor in reads}
        self.partial_record = ""


class Driver:
    """The loop between the host and the current step."""

    def __init__(self, channel: socket.socket, config: dict[str, Any]) -> None:
        self._most_output = config["limits"]["output"]
        self._watch = self._confinement = None
        if parts := config["parts"]:
            self._watch = runpy.run_path(parts["watch"])["Watch"](config)
            self._confinement = runpy.run_path(parts["confine"])["Confinement"](config)
        self._channel = channel
        self._incoming, self._outgoing = b"", bytearray()
        self._step: Step | None = None
        self._listening, self._next_walk = False, 0.0
        self._files = Files(".")
        self._selector = selectors.DefaultSelector()
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_up)
        channel.setblocking(False)
        self._selector.register(channel, selectors.EVENT_READ, self._on_host)
        self._selector.register(wake_read, selectors.EVENT_READ, os.read)

    def serve(self, failed: list[str]) -> None:
        """Work until the host closes its end."""
        self._send(k="ready", failed=failed)
        while True:
            for key, mask in self._selector.select(self._wait_seconds()):
                if mask & selectors.EVENT_WRITE:
                    self._flush()
                if mask & selectors.EVENT_READ:
                    key.data(key.fd, CHUNK)
            self._reap(self._step)
            if self._step is not None:
                self._look_after(self._step)

    def _wait_seconds(self) -> float | None:
        if self._step is None:
            return None
        until = [self._next_walk]
        if self._step.killed_at is None:
            until += [self._step.deadline, *([self._watch.due] if self._watch else [])]
        return max(0.0, min(until) - time.monotonic())

    def _on_host(self, _: int, size: int) -> None:
        try:
            data = self._channel.recv(size)
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
                self._start(request)
            elif self._step is not None:
                self._kill(self._step)

    def _start(self, request: dict[str, Any]) -> None:
        self._step = Step(request, self._confinement, self._watch)
        self._next_walk, self._listening = time.monotonic() + WALK_SECONDS, False
        self._listen_to_step(listen=True)

    def _on_output(self, descriptor: int, size: int) -> None:
        step = self._step
        if step is None:
            return
        data, kind = os.read(descriptor, size), step.pipes[descriptor]
        step.printed += len(data)
        if step.printed > self._most_output:
            step.limit = step.limit or "output"
        text = step.decoders[descriptor].decode(data, final=not data)
        if kind == "r":
            whole, _, rest = (step.partial_record + text).rpartition("\n")
            step.partial_record = rest[-CHUNK:]  # of a longer line something is left that is none
            text = whole and whole + "\n"
            if OUT_OF_MEMORY in text:
                step.limit = step.limit or "memory"
        if text:
            self._send(k=kind, d=text)
            time.sleep(NAP_SECONDS)
        if not data:
            self._close(step, descriptor)

    def _close(self, step: Step, descriptor: int) -> None:
        if self._listening:
            self._selector.unregister(descriptor)
        os.close(descriptor)
        del step.pipes[descriptor]

    def _look_after(self, step: Step) -> None:
        now = time.monotonic()
        if step.killed_at is None and step.exit_code is None:
            step.limit = self._limit_of(step, now)
            if step.limit is not None:
                self._kill(step)
        if now >= self._next_walk:
            self._report_files(settled_ns=100_000_000)
            self._next_walk = now + WALK_SECONDS
        stuck = step.killed_at is not None and now > step.killed_at + GRACE_SECONDS
        if step.exit_code is not None and (not step.pipes or stuck):
            self._finish(step)

    def _limit_of(self, step: Step, now: float) -> str | None:
        if now >= step.deadline:
            return "wall"
        return step.limit or (self._watch.exceeded() if self._watch else None)

    def _reap(self, step: Step | None) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if step is not None and pid == step.pid:
                    step.exit_code = os.waitstatus_to_exitcode(status)
                    step.limit = step.limit or LIMIT_OF_SIGNAL.get(step.exit_code)
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
        if step.limit is None and self._watch:
            step.limit = self._watch.look_at_disk()
        code = step.exit_code or (-signal.SIGKILL if step.limit else 0)  # it came too late for it
        self._step, seconds = None, time.monotonic() - step.started
        self._send(k="end", code=code, seconds=seconds, limit=step.limit)

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


def kill_descendants() -> None:
    """Kill every descendant of this process, those that left their group included (Linux)."""
    for _ in range(200):
        children = descendants(os.getpid())
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, they cannot fork on
            for pid in [-1] if children and os.getpid() == 1 else children:  # -1: all in the box
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
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


def _become_step(code: str, script: str, writes: tuple[int, ...], confinement: Any) -> None:
    """Turn the forked child into a fresh interpreter that runs `code`, and end with it."""
    exit_code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number, source in enumerate((os.open(os.devnull, os.O_RDONLY), *writes[:2])):
            os.dup2(source, number)
        if confinement is not None:
            confinement.enter()
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
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__file__ = script
    sys.argv, here = [script], Path.cwd()
    sys.dont_write_bytecode = True  # modules of the stage would leave compiled files beside them
    # After the folder of the SDK, and for scripts of the stage only: checks do not trust it.
    sys.path[1:1] = [str(here)] if here in Path(script).resolve().parents else []
    try:
        linecache.cache[script] = (len(code), None, code.splitlines(keepends=True), script)
        exec(compile(code, script, "exec"), main.__dict__)  # noqa: S102  # its whole purpose
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)  # noqa: T201
        return 1
    except BaseException as error:  # noqa: BLE001  # reported as Python itself would
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, frames)
        if isinstance(error, MemoryError):
            os.write(int(os.environ["TRAINABLE_RECORDS"]), OUT_OF_MEMORY.encode())
        return 1
    return 0


def _leave(exit_code: int) -> None:
    """End as an interpreter does: threads joined, exit handlers run, streams flushed."""
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
    """Serve the host on the descriptor in `argv[1]`; `argv[2]` says what to import, and how."""
    config = json.loads(sys.argv[2])
    channel = socket.socket(fileno=os.dup(int(sys.argv[1])))  # a low one, which steps close
    os.close(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prctl(PR_SET_DUMPABLE, 0)  # steps of the same user may not look into this process
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    failed = _preload(config["preload"])
    os.chdir(config["workdir"])  # only now: files that a step left there are not to be found
    Driver(channel, config).serve(failed)


if __name__ == "__main__":
    main()
