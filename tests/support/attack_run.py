"""Runs attacks at one level of isolation, and prints what went wrong with each as JSON.

    python -m tests.support.attack_run LEVEL [--short | --slow] [--only WORD]

LEVEL is a level of the local sandbox, or "raw" for a plain process, the control: there only
attacks that do no harm run, and what is printed is which of them succeeded. With "probe" instead,
it prints which levels work.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from uuid import uuid4

from tests.support.attacks import ATTACKS, BITING, FLAWLESS, PRELUDE, PROCESSES, Attack
from trainable.errors import TrainableError
from trainable.outputs import artifact_rows, read_report
from trainable.sandbox import confine
from trainable.sandbox.base import BoxSpec, Changed, CodeResult, Output, Record
from trainable.sandbox.isolation import LEVELS, probe
from trainable.sandbox.limits import Limits
from trainable.sandbox.local import LocalSandbox
from trainable.stages import Stage
from trainable.storage.directory import DirectoryVolume
from trainable.stream import read_charts, read_metrics

AT_ONCE = 3
MEGABYTE = 1 << 20
LEAVES_FULL = ("disk", "inodes", "file_size")
HARMLESS = ("read", "list", "follow", "connect", "send-udp", "probe")


class World:
    """What there is on the host to attack."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="world-"))
        self.tag, self.secret = f"tag{uuid4().hex}", f"secret{uuid4().hex}"
        self.volume = self.base / "volume"
        self.canary = self.base / "host" / f"canary-{self.tag}"
        self.other = self.volume / "sessions" / uuid4().hex / "eda"
        self.dataset = self.volume / "datasets" / uuid4().hex
        self.home = self.base / "home"
        self._kept = {
            self.canary: self.secret,
            self.other / "secret.txt": self.secret,
            self.volume / "datasets/other/data.csv": self.secret,
            self.dataset / "data.csv": "a,b\n1,2\n",
            self.home / ".netrc": self.secret,
        }
        for path, text in self._kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        os.environ.update(HOME=str(self.home), AWS_SECRET_ACCESS_KEY=self.secret)
        os.environ.update(ANTHROPIC_API_KEY=self.secret, DATABASE_URL=self.secret)
        self.contacts: list[str] = []
        self._sockets: list[socket.socket] = []
        tcp, tcp6 = socket.SOCK_STREAM, socket.SOCK_STREAM
        self.ports = {
            "tcp": self._listen(socket.AF_INET, tcp, ("127.0.0.1", 0)),
            "tcp6": self._listen(socket.AF_INET6, tcp6, ("::1", 0)),
            "udp": self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        }
        self.socket = self.base / "socket"
        self._listen(socket.AF_UNIX, tcp, str(self.socket))
        self._listen(socket.AF_UNIX, tcp, f"\0{self.tag}")
        waits = f"import time; time.sleep(3600)  # {self.tag}"
        self.process = subprocess.Popen([sys.executable, "-c", waits])

    def _listen(self, family: int, kind: int, address: object) -> int:
        listener = socket.socket(family, kind)
        listener.bind(address)
        if kind == socket.SOCK_STREAM:
            listener.listen(5)
        self._sockets.append(listener)
        threading.Thread(target=self._wait, args=(listener, kind), daemon=True).start()
        name = listener.getsockname()
        return name[1] if isinstance(name, tuple) else 0

    def _wait(self, listener: socket.socket, kind: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                if kind == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(100)
                self.contacts.append(str(listener.getsockname()))

    def code_of(self, attack: Attack) -> str:
        calls = confine.FORBIDDEN | confine.UNCOUNTED
        column = confine.MACHINE[0]
        words = {
            **{name: str(port) for name, port in self.ports.items()},
            "canary": str(self.canary),
            "other": str(self.other),
            "volume": str(self.volume),
            "base": str(self.base),
            "home": str(self.home),
            "host": str(os.getpid()),
            "process": str(self.process.pid),
            "socket": str(self.socket),
            "abstract": self.tag,
            "tag": self.tag,
            "secret": self.secret,
            "calls": repr([(n, nrs[column]) for n, nrs in calls.items() if nrs[column] >= 0]),
            "clone": str(confine.CLONE[column]),
            "prctl": str(confine.PRCTL[column]),
            "unshare": str(calls["unshare"][column]),
            "ptrace": str(calls["ptrace"][column]),
        }
        code = attack.code
        for word, value in words.items():
            code = code.replace(f"«{word}»", value)
        return PRELUDE + code

    def damage(self) -> list[str]:
        """Return what is not as it was."""
        found = [f"contacted {name}" for name in self.contacts]
        self.contacts.clear()
        for path, text in self._kept.items():
            if not path.is_file() or path.read_text() != text or path.stat().st_mode & 0o022:
                found.append(f"{path.name} was changed")
        if self.process.poll() is not None:
            found.append("a process of the host was ended")
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for listener in self._sockets:
            listener.close()
        subprocess.run(["chmod", "-R", "u+rwx", self.base], check=True)
        shutil.rmtree(self.base)


class Target:
    """One attack in one box, and everything that came out of it."""

    def __init__(self, attack: Attack, world: World, level: str) -> None:
        self.attack, self.world, self.level = attack, world, level
        self.session = uuid4().hex
        self.folder = world.volume / "sessions" / self.session / "eda"
        (self.folder / "scripts").mkdir(parents=True)
        self.items: list[Output | Record | Changed] = []
        self.problems: list[str] = []

    async def run(self) -> list[str]:
        attack = self.attack
        spec = BoxSpec(
            workdir=self.folder,
            readonly=(self.world.dataset,),
            env={"TRAINABLE_DATASET": str(self.world.dataset)},
            preload=(),
            limits=Limits(
                cpu=2.0 if attack.limit == "cpu" else None,
                memory=600 * MEGABYTE,
                processes=80,
                disk=100 * MEGABYTE,
                file_size=50 * MEGABYTE,
                inodes=5000,
                output=8 * MEGABYTE,
            ),
        )
        code = self.world.code_of(attack).replace("«session»", self.session)
        async with LocalSandbox(isolation=self.level).open(spec) as box:
            script = self.folder / "scripts" / "step.py"
            script.write_text(code)
            run = box.run_code(code, script=script, timeout=attack.timeout, push=self.push)
            step = asyncio.create_task(run)
            while not step.done():
                await asyncio.wait([step], timeout=0.2)
                await asyncio.to_thread(self.read_as_host)
            self.judge(await step)
            if attack.limit not in LEAVES_FULL:
                again = await box.run_code(attack.then, script=script, timeout=20, push=self.push)
                if again.exit_code or again.restarted or "BREACH" in self.text():
                    self.problems.append(f"the next step: {again}")
        await asyncio.to_thread(self.read_as_host)
        self.problems += [f"left: {command}" for command in self.left()]
        return self.problems

    async def push(self, item: Output | Record | Changed) -> None:
        self.items.append(item)

    def text(self) -> str:
        return "".join(item.text for item in self.items if isinstance(item, Output))

    def judge(self, result: CodeResult) -> None:
        attack, text = self.attack, self.text()
        said = " / ".join(text[-300:].splitlines())
        if "BREACH" in text:
            self.problems += [line for line in text.splitlines() if "BREACH" in line][:5]
        if result.limit != attack.limit or result.restarted:
            self.problems.append(f"ended as {result}: {said}")
        prints = attack.prints or (None if attack.limit else "HELD")
        if prints is not None and prints not in text:
            self.problems.append(f"{prints!r} was not printed, exit {result.exit_code}: {said}")
        if attack.exit_code is not None and result.exit_code != attack.exit_code:
            self.problems.append(f"exit code {result.exit_code}: {said}")
        records = [item for item in self.items if isinstance(item, Record)]
        calls = [call for item in records if item.kind == "metrics" for call in item.data]
        events = read_metrics(calls, Stage.EDA)
        events += read_charts([item.data for item in records if item.kind == "charts"])
        dumped = "".join(event.model_dump_json() for event in events)
        names = "".join(item.path for item in self.items if isinstance(item, Changed))
        if "accuracy" in dumped or "Infinity" in dumped or not names.isprintable():
            self.problems.append("a record or a name that must not pass")
        if self.world.secret in f"{text}{dumped}":
            self.problems.append("the secret came out")
        f"{text}{dumped}{names}".encode()

    def read_as_host(self) -> None:
        """Read everything that the host would read after a stage."""
        volume, folder = DirectoryVolume(self.world.volume), f"sessions/{self.session}/eda"
        with contextlib.suppress(TrainableError):
            artifact_rows(volume, self.session, Stage.EDA)
        read = [read_report(volume, folder) or ""]
        for name in ("report.md", "figure.png", "socket.png", "data/x.json", "link0", "hard.csv"):
            with contextlib.suppress(TrainableError):
                read.append(volume.read_bytes(f"{folder}/{name}").decode(errors="replace"))
        if any(self.world.secret in text or "a,b" in text for text in read):
            self.problems.append("the host read over a link")

    def left(self) -> list[str]:
        """Return commands of processes that have the session's name in them, and end them."""
        found: dict[int, str] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                if alive and self.session.encode() in words:
                    found[int(entry.name)] = words.decode(errors="replace")[-300:]
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return list(found.values())


async def run_all(attacks: list[Attack], level: str) -> dict[str, list[str]]:
    world, places = World(), asyncio.Semaphore(AT_ONCE)
    found: dict[str, list[str]] = {}

    async def run(attack: Attack) -> None:
        async with places:
            problems = await Target(attack, world, level).run()
            found[attack.name] = problems + world.damage()

    try:
        await asyncio.gather(*map(run, attacks))
    finally:
        world.close()
    return found


def run_raw(attacks: list[Attack]) -> list[str]:
    """Return the names of the attacks that succeed against a plain process."""
    world, succeeded = World(), list[str]()
    for attack in attacks:
        folder = world.volume / "sessions" / uuid4().hex / "eda"
        folder.mkdir(parents=True)
        ended = subprocess.run(
            [sys.executable, "-c", world.code_of(attack)],
            cwd=folder,
            env={**os.environ, "TRAINABLE_DATASET": str(world.dataset)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if "BREACH" in ended.stdout:
            succeeded.append(attack.name)
    world.close()
    return succeeded


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("level")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attacks-") as tempfile.tempdir:
        print(json.dumps(answer(options)))


def answer(options: argparse.Namespace) -> object:
    if options.level == "probe":
        return {level: probe(level).reason for level in LEVELS}
    if options.level == "raw":
        return run_raw([attack for attack in BITING if attack.name.startswith(HARMLESS)])
    chosen = [
        attack
        for attack in ((*BITING, *FLAWLESS, *PROCESSES) if options.short else ATTACKS)
        if (options.slow or not attack.slow)
        and options.only in attack.name
        and (not attack.only or options.level in attack.only)
    ]
    mounts = Path("/proc/self/mounts").read_text()
    found = asyncio.run(run_all(chosen, options.level))
    left = [path.name for path in Path(tempfile.gettempdir()).glob("trainable-*")]
    changed = Path("/proc/self/mounts").read_text() != mounts
    found["afterwards"] = [f"left {left}"] * bool(left) + ["mounts changed"] * changed
    return found


if __name__ == "__main__":
    main()
