"""A sandbox of child processes on this machine.

What it gives: a fresh interpreter state for each step, a clean environment, a working directory,
and an end to the whole process tree at a timeout, an abort or the death of this process.
What it does not give yet: walls. Code runs with the rights of this user, so code that a model
wrote is refused unless `isolation="none"` is asked for.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trainable.sdk
from trainable.errors import IsolationUnavailable, SandboxError
from trainable.sandbox import driver
from trainable.sandbox.base import BoxInfo, BoxSpec, Changed, CodeResult, Output, Push, Record
from trainable.settings import machine_environment

MISSING = ("files", "network", "memory", "processes", "disk")
"""Guarantees that running without isolation does not give."""
FRAME_LIMIT = 1 << 20
NEXT_CALL = "\nm"
"""What separates two calls of `log` in the record lines of `trainable.sdk`."""
KILL_SECONDS = 4.0
"""How long the driver may take to end a step before it is killed itself."""


class LocalSandbox:
    """Runs code in child processes; the packages are those of this interpreter."""

    name = "local"

    def __init__(
        self,
        *,
        isolation: str | None = None,
        cache: Path | None = None,
        preload: tuple[str, ...] = driver.STACK,
    ) -> None:
        """Make a sandbox.

        Args:
            isolation: `"none"` allows model-written code to run without walls.
            cache: Folder that outlives the box, for caches of libraries (matplotlib's fonts).
            preload: Packages imported once, before the first step, unless the box asks for others.
        """
        self._isolation = isolation
        self._cache = cache
        self._preload = preload

    @asynccontextmanager
    async def open(self, spec: BoxSpec) -> AsyncGenerator["LocalBox"]:
        """See `Sandbox.open`."""
        if not spec.trusted and self._isolation != "none":
            raise IsolationUnavailable(
                "This version cannot isolate code that a model wrote.",
                remedy='Use agent="playbook", or pass isolation="none" to run it with your rights.',
            )
        folder = Path(tempfile.mkdtemp(prefix="trainable-"))
        box = None
        try:
            preload = self._preload if spec.preload is None else spec.preload
            box = await _start(spec, folder, preload, self._cache)
            yield box
        finally:
            if box is not None:
                await box.close()
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class LocalBox:
    """A driver process; see `Box`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        info: BoxInfo,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.info = info

    async def run_code(self, code: str, *, script: Path, timeout: float, push: Push) -> CodeResult:
        """See `Box.run_code`."""
        self._send({"run": code, "script": str(script), "timeout": timeout})
        try:
            return await self._relay(push)
        except asyncio.CancelledError:
            await asyncio.shield(self._stop_step())
            raise

    async def close(self) -> None:
        """End the driver and everything that it started."""
        self._writer.close()
        try:
            async with asyncio.timeout(KILL_SECONDS):
                await self._process.wait()
        except TimeoutError:
            for pid in driver.descendants(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.kill()
            await self._process.wait()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _stop_step(self) -> None:
        """Kill the step; past the grace period, the box with it."""
        try:
            self._send({"kill": True})
            async with asyncio.timeout(KILL_SECONDS):
                await self._relay(_discard)
        except (TimeoutError, SandboxError):
            self._process.kill()

    async def _relay(self, push: Push) -> CodeResult:
        while True:
            frame = await self._receive()
            match frame["k"]:
                case "o":
                    await push(Output("stdout", frame["d"]))
                case "e":
                    await push(Output("stderr", frame["d"]))
                case "r":
                    for record in _records(frame["d"]):
                        await push(record)
                case "f":
                    await push(Changed(frame["d"], frame["size"]))
                case "end":
                    return CodeResult(
                        exit_code=frame["code"],
                        seconds=frame["seconds"],
                        timed_out=frame["timed_out"],
                    )
                case _:
                    pass  # "ready": the imports are done

    async def _receive(self) -> dict[str, Any]:
        try:
            line = await self._reader.readline()
        except (ValueError, ConnectionError):
            line = b""
        if not line:
            raise SandboxError(
                "The process that runs the code has died.",
                remedy="Run the stage again; if it dies again, the machine may be out of memory.",
                code="sandbox_died",
            )
        return json.loads(line)

    def _send(self, request: dict[str, Any]) -> None:
        self._writer.write(json.dumps(request).encode() + b"\n")


async def _start(
    spec: BoxSpec, folder: Path, preload: tuple[str, ...], cache: Path | None
) -> LocalBox:
    (folder / "tmp").mkdir()
    sdk = folder / "sdk"
    sdk.mkdir()
    shutil.copyfile(trainable.sdk.__file__, sdk / "trainable.py")
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as until_started:  # cancelled before, the driver sees its end
        until_started.enter_context(ours)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-u", driver.__file__, str(theirs.fileno()), json.dumps(preload)),
                pass_fds=[theirs.fileno()],
                cwd=spec.workdir,
                env=_environment(folder, cache) | dict(spec.env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=FRAME_LIMIT)
        until_started.pop_all()
    info = BoxInfo(backend="local", isolation="none", missing=MISSING, limits={})
    return LocalBox(process, reader, writer, info)


def _environment(folder: Path, cache: Path | None) -> dict[str, str]:
    threads = str(os.cpu_count() or 1)
    cached = cache or folder
    cached.mkdir(parents=True, exist_ok=True)
    return machine_environment() | {
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(folder / "sdk"),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(cached / "matplotlib"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "LOKY_MAX_CPU_COUNT": threads,
    }


def _records(lines: str) -> list[Record]:
    """Return the records in whole lines; what is no record is left out."""
    if lines.startswith("m") and "\nc" not in lines:
        with contextlib.suppress(ValueError, RecursionError):  # the usual case, in one go
            return [Record("metrics", json.loads(f"[{lines[1:-1].replace(NEXT_CALL, ',')}]"))]
    found: list[Record] = []
    for line in lines.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            if line.startswith("m"):
                found.append(Record("metrics", [json.loads(line[1:])]))
            elif line.startswith("c"):
                found.append(Record("charts", json.loads(line[1:])))
    return found


async def _discard(_: object) -> None:
    pass
