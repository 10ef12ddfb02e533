"""A sandbox of child processes on this machine, behind the best walls that work here.

What it gives at every level: a fresh interpreter state for each step, a clean environment, limits
on what a step uses, and an end to the whole process tree at a limit, an abort or the death of this
process. What the walls hold depends on the level; `BoxInfo.missing` names what they do not.
Not covered: faults of the kernel, side channels of the processor, bandwidth of the disk.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import site
import socket
import stat
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trainable.sdk
from trainable.errors import IsolationUnavailable, SandboxError
from trainable.sandbox import driver
from trainable.sandbox.base import BoxInfo, BoxSpec, Changed, CodeResult, Output, Push
from trainable.sandbox.isolation import choose_level
from trainable.sandbox.launch import Walls
from trainable.sandbox.records import read_records
from trainable.settings import machine_environment

STACK = (
    *("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "joblib", "lightgbm"),
    *("matplotlib.pyplot", "sklearn.calibration", "sklearn.compose", "sklearn.ensemble"),
    *("sklearn.feature_extraction.text", "sklearn.feature_selection", "sklearn.impute"),
    *("sklearn.inspection", "sklearn.linear_model", "sklearn.model_selection"),
    *("sklearn.pipeline", "sklearn.preprocessing"),
)
"""Imported before the first step; anything else is imported by the step that needs it."""
FRAME_LIMIT = 1 << 20
KILL_SECONDS = 4.0
"""How long the driver may take to end a step before it is killed itself."""
LOG_BYTES = 500


class LocalSandbox:
    """Runs code in child processes; the packages are those of this interpreter."""

    name = "local"

    def __init__(
        self,
        *,
        isolation: str | None = None,
        cache: Path | None = None,
        preload: tuple[str, ...] = STACK,
    ) -> None:
        """Make a sandbox.

        Args:
            isolation: A level by its name; by default the best that works. `"none"` allows
                model-written code to run without walls.
            cache: Folder that outlives the box, for caches of libraries (matplotlib's fonts).
            preload: Packages imported once, before the first step, unless the box asks for others.
        """
        self._isolation = isolation
        self._cache = cache
        self._preload = preload

    def describe(self, *, trusted: bool) -> str:
        """Return a sentence on where code will run, and how isolated."""
        try:
            level, found = choose_level(self._isolation, trusted=trusted)
        except IsolationUnavailable:  # said again, with the reasons, when a box is opened
            return "Code cannot run here: no isolation works."
        if level == "none":
            return "Code runs on this machine, without isolation."
        lacks = f", which does not guard {' and '.join(found.missing)}" if found.missing else ""
        return f"Code runs on this machine, isolated by {level}{lacks}."

    @asynccontextmanager
    async def open(self, spec: BoxSpec) -> AsyncGenerator["LocalBox"]:
        """See `Sandbox.open`."""
        level, found = await asyncio.to_thread(choose_level, self._isolation, trusted=spec.trusted)
        limits = {name: float(value) for name, value in vars(spec.limits).items() if value}
        info = BoxInfo(backend="local", isolation=level, missing=found.missing, limits=limits)
        folder = Path(tempfile.mkdtemp(prefix="trainable-"))
        box = None
        try:
            walls = Walls(level, spec, folder)
            await asyncio.to_thread(_furnish, folder, walls, self._cache)
            preload = self._preload if spec.preload is None else spec.preload

            async def start() -> _Link:
                return await _start(walls, spec, folder, preload)

            box = LocalBox(start, await start(), info, walls)
            yield box
        finally:
            if box is not None:
                await box.close()
            keep = self._cache if spec.trusted else None
            await asyncio.to_thread(_clear, folder, keep)


@dataclass(frozen=True, kw_only=True)
class _Link:
    """A running driver."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    log: Path
    """What the driver complains about."""

    async def close(self) -> None:
        """End the driver and everything that it started."""
        self.writer.close()
        try:
            async with asyncio.timeout(KILL_SECONDS):
                await self.process.wait()
        except TimeoutError:
            for pid in driver.descendants(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def complaint(self) -> str:
        """Return the last line of the log, or how the process ended."""
        with contextlib.suppress(OSError):
            text = self.log.read_bytes()[-LOG_BYTES:].decode(errors="replace").strip()
            if text:
                return text.rpartition("\n")[2]
        return f"it ended with code {self.process.returncode}"


class LocalBox:
    """A driver process; see `Box`. A driver that dies is replaced, once."""

    def __init__(
        self, start: Callable[[], Awaitable[_Link]], link: _Link, info: BoxInfo, walls: Walls
    ) -> None:
        self._start = start
        self._link: _Link = link
        self._walls = walls
        self._ready = self._closed = False
        self._restarted: str | None = None
        self.info = info

    def inside(self, path: Path) -> str:
        """See `Box.inside`."""
        return self._walls.inside(str(path))

    async def run_code(self, code: str, *, script: Path, timeout: float, push: Push) -> CodeResult:
        """See `Box.run_code`."""
        most = min(timeout, self.info.limits.get("wall", timeout))
        before, started = self._restarted, time.monotonic()
        if self._ready and self._link.process.returncode is not None:
            await self._restart()
        self._send({"run": code, "script": self.inside(script), "timeout": most})
        try:
            end = await self._relay(push)
        except asyncio.CancelledError:
            await asyncio.shield(self._stop_step())
            raise
        except SandboxError:
            await self._restart()
            seconds = time.monotonic() - started
            end: dict[str, Any] = {"code": -signal.SIGKILL, "seconds": seconds, "limit": None}
        return CodeResult(
            exit_code=end["code"],
            seconds=end["seconds"],
            limit=end["limit"],
            restarted=self._restarted if before is None else None,
        )

    async def close(self) -> None:
        """End the driver and everything that it started."""
        self._closed = True
        await self._link.close()

    async def _restart(self) -> None:
        """Start another driver in place of the one that died.

        Raises:
            SandboxError: It was the second, or had not even begun to work, or the box is closed.
        """
        if not self._closed:
            await self._link.close()
        complaint = self._link.complaint()
        if self._closed or self._restarted is not None or not self._ready:
            raise SandboxError(
                f"The process that runs the code has died: {complaint}.",
                remedy="Run the stage again; if it dies again, the machine may be out of memory.",
                code="sandbox_died",
            )
        self._restarted = complaint
        self._ready = False
        self._link = await self._start()

    async def _stop_step(self) -> None:
        """Kill the step; past the grace period, the driver with it."""
        try:
            self._send({"kill": True})
            async with asyncio.timeout(KILL_SECONDS):
                await self._relay(_discard)
        except (TimeoutError, SandboxError):
            with contextlib.suppress(ProcessLookupError):
                self._link.process.kill()

    async def _relay(self, push: Push) -> dict[str, Any]:
        while True:
            frame = await self._receive()
            match frame["k"]:
                case "o":
                    await push(Output("stdout", frame["d"]))
                case "e":
                    await push(Output("stderr", frame["d"]))
                case "r":
                    for record in read_records(frame["d"]):
                        await push(record)
                case "f":
                    await push(Changed(frame["d"], frame["size"]))
                case "end":
                    return frame
                case _:
                    self._ready = True  # the imports are done

    async def _receive(self) -> dict[str, Any]:
        try:
            line = await self._link.reader.readline()
        except (ValueError, ConnectionError):
            line = b""
        if not line:
            raise SandboxError("The process that runs the code has died.", code="sandbox_died")
        return json.loads(line)

    def _send(self, request: dict[str, Any]) -> None:
        self._link.writer.write(json.dumps(request).encode() + b"\n")


def _furnish(folder: Path, walls: Walls, cache: Path | None) -> None:
    """Put into the box's folder what the box needs."""
    for part in ("home/matplotlib", "root", "sdk", "tmp"):
        (folder / part).mkdir(parents=True)
    shutil.copyfile(trainable.sdk.__file__, folder / "sdk/trainable.py")
    for file in _fonts(cache and cache / "matplotlib"):
        shutil.copyfile(file, folder / "home/matplotlib" / file.name)
    walls.write_files()
    walls.share_files()


def _clear(folder: Path, cache: Path | None) -> None:
    """Remove the box's folder; matplotlib's list of fonts is kept, since it takes long to make."""
    for file in _fonts(folder / "home/matplotlib") if cache else []:
        place = (cache or folder) / "matplotlib" / file.name
        if not place.exists():
            with contextlib.suppress(OSError):  # for example a full disk
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
    for above, names, _ in os.walk(folder):  # code may have closed folders against this user
        for path in [Path(above, name) for name in names]:
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _fonts(folder: Path | None) -> list[Path]:
    found = folder.glob("fontlist-*.json") if folder else ()
    return [path for path in found if stat.S_ISREG(path.lstat().st_mode)]


async def _start(walls: Walls, spec: BoxSpec, folder: Path, preload: tuple[str, ...]) -> _Link:
    ours, theirs = socket.socketpair()
    log = folder / "driver.log"
    with contextlib.ExitStack() as until_started:  # cancelled before, the driver sees its end
        until_started.enter_context(ours)
        with theirs, log.open("wb") as complaints:
            process = await asyncio.create_subprocess_exec(
                *walls.driver_command(theirs.fileno(), preload),
                pass_fds=[theirs.fileno()],
                env=walls.environment(_environment(folder) | dict(spec.env)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=FRAME_LIMIT)
        until_started.pop_all()
    return _Link(process=process, reader=reader, writer=writer, log=log)


def _environment(folder: Path) -> dict[str, str]:
    threads = str(os.cpu_count() or 1)
    # Never the one below HOME, where code may write what later interpreters would run.
    user_site = {"PYTHONNOUSERSITE": "1"}
    if site.ENABLE_USER_SITE:
        user_site = {"PYTHONUSERBASE": site.getuserbase()}
    return (
        machine_environment()
        | user_site
        | {
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONPATH": str(folder / "sdk"),
            "PYTHONHASHSEED": "0",
            "PYTHONUTF8": "1",
            "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": str(folder / "home/matplotlib"),
            "OMP_WAIT_POLICY": "PASSIVE",
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "LOKY_MAX_CPU_COUNT": threads,
        }
    )


async def _discard(_: object) -> None:
    pass
