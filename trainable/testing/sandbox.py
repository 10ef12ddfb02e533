"""What every sandbox must do: run each of `CONTRACTS` against yours.

Each contract is a coroutine function that takes a sandbox and an empty folder, and fails with
an `AssertionError` that says what was expected.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from trainable.errors import SandboxError
from trainable.sandbox.base import (
    Box,
    BoxSpec,
    Changed,
    CodeResult,
    Output,
    Record,
    Sandbox,
)

SECONDS = 60.0
"""Time that a contract gives to code that should end by itself."""


@dataclass
class Session:
    """A box with everything that its code did."""

    box: Box
    workdir: Path
    items: list[Output | Record | Changed] = field(default_factory=list[Output | Record | Changed])
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self, code: str, timeout: float = SECONDS) -> CodeResult:
        """Run code and keep what it did in `items`."""
        self.items.clear()
        script = self.workdir / "scripts" / "step.py"
        return await self.box.run_code(code, script=script, timeout=timeout, push=self.push)

    async def push(self, item: Output | Record | Changed) -> None:
        """Keep one item and wake those who wait for it."""
        async with self.arrived:
            self.items.append(item)
            self.arrived.notify_all()

    async def wait_for(self, text: str) -> None:
        """Wait until standard output holds `text`."""
        async with asyncio.timeout(SECONDS), self.arrived:
            await self.arrived.wait_for(lambda: text in self.text())

    def text(self, stream: str = "stdout") -> str:
        """Return what was printed so far."""
        outputs = [item for item in self.items if isinstance(item, Output)]
        return "".join(output.text for output in outputs if output.stream == stream)

    def records(self) -> list[Record]:
        """Return what was logged so far."""
        return [item for item in self.items if isinstance(item, Record)]


@asynccontextmanager
async def opened(sandbox: Sandbox, folder: Path) -> AsyncGenerator[Session]:
    """Open a box without preloaded packages on `folder`."""
    (folder / "scripts").mkdir(exist_ok=True)
    async with sandbox.open(BoxSpec(workdir=folder, preload=(), trusted=True)) as box:
        yield Session(box, folder)


async def both_streams_arrive_in_order(sandbox: Sandbox, folder: Path) -> None:
    """Prints of Python, of C code and of child processes all arrive."""
    code = (
        "import os, subprocess, sys\n"
        "print('one'); os.write(1, b'two\\n'); subprocess.run(['echo', 'three'])\n"
        "print('bad', file=sys.stderr)\n"
    )
    async with opened(sandbox, folder) as session:
        result = await session.run(code)
        assert result.exit_code == 0, result
        assert session.text() == "one\ntwo\nthree\n", session.text()
        assert session.text("stderr") == "bad\n", session.text("stderr")


async def output_arrives_while_code_runs(sandbox: Sandbox, folder: Path) -> None:
    """A line is delivered before the code that printed it has ended."""
    code = "import os\nprint('ready')\nwhile not os.path.exists('go'): pass\nprint('gone')"
    async with opened(sandbox, folder) as session:
        task = asyncio.create_task(session.run(code))
        await session.wait_for("ready")
        (folder / "go").write_text("")
        assert (await task).exit_code == 0
        assert session.text() == "ready\ngone\n", session.text()


async def all_of_a_flood_arrives(sandbox: Sandbox, folder: Path) -> None:
    """Nothing of a large output is lost, and bytes that are no text do no harm."""
    code = "import os\nfor _ in range(4000): print('x' * 999)\nos.write(1, b'\\xff\\n')"
    async with opened(sandbox, folder) as session:
        assert (await session.run(code)).exit_code == 0
        assert len(session.text()) == 4_000_002, len(session.text())


async def exit_codes_are_those_of_python(sandbox: Sandbox, folder: Path) -> None:
    """A raise is 1 with a traceback that names the line; exits and signals keep their number."""
    cases = {
        "import sys; sys.exit()": 0,
        "import sys; sys.exit(3)": 3,
        "import sys; sys.exit('no')": 1,
        "def broken(:": 1,
        "import os; os.kill(os.getpid(), 9)": -9,
    }
    async with opened(sandbox, folder) as session:
        for code, expected in cases.items():
            assert (await session.run(code)).exit_code == expected, code
        assert (await session.run("x = 1\nraise ValueError('why')")).exit_code == 1
        assert 'step.py", line 2' in session.text("stderr"), session.text("stderr")
        assert session.text("stderr").endswith("ValueError: why\n"), session.text("stderr")


async def steps_share_files_only(sandbox: Sandbox, folder: Path) -> None:
    """A step finds the files of the one before it, and none of its variables or modules."""
    async with opened(sandbox, folder) as session:
        await session.run("import json\njson.x = 1\ny = 2\nopen('kept', 'w').write('3')")
        code = "import json\nprint(hasattr(json, 'x'), 'y' in dir(), open('kept').read())"
        await session.run(code)
        assert session.text() == "False False 3\n", session.text()


async def records_cannot_be_forged_by_printing(sandbox: Sandbox, folder: Path) -> None:
    """`log` arrives as a record; the same text printed is output."""
    code = (
        "from trainable import configure_dashboard, log\n"
        "configure_dashboard([{'title': 'Loss', 'metrics': ['loss'], 'type': 'line'}])\n"
        "log(step=1, metrics={'loss': 0.5}, run='a')\n"
        'print(\'m[1,{"loss":0.5},"a"]\')\n'
    )
    async with opened(sandbox, folder) as session:
        assert (await session.run(code)).exit_code == 0, session.text("stderr")
        kinds = [(record.kind, record.data) for record in session.records()]
        assert kinds == [
            ("charts", [{"title": "Loss", "metrics": ["loss"], "type": "line"}]),
            ("metrics", [[1, {"loss": 0.5}, "a"]]),
        ], kinds
        assert session.text().startswith("m["), session.text()


async def files_are_announced_and_again_when_rewritten(sandbox: Sandbox, folder: Path) -> None:
    """A new file is announced while the step runs; scripts and hidden files are not."""
    code = (
        "import os, pathlib\n"
        "os.makedirs('data', exist_ok=True)\n"
        "pathlib.Path('data/a.csv').write_text('a')\n"
        "pathlib.Path('.hidden').write_text('b')\n"
        "while not os.path.exists('go'): pass\n"
        "pathlib.Path('data/a.csv').write_text('longer')\n"
    )
    async with opened(sandbox, folder) as session:
        task = asyncio.create_task(session.run(code))
        async with asyncio.timeout(SECONDS), session.arrived:
            await session.arrived.wait_for(lambda: Changed("data/a.csv", 1) in session.items)
        (folder / "go").write_text("")
        await task
        changed = [item for item in session.items if isinstance(item, Changed)]
        assert Changed("data/a.csv", 6) in changed, changed
        assert {item.path for item in changed} == {"data/a.csv", "go"}, changed


async def a_timeout_ends_the_whole_tree(sandbox: Sandbox, folder: Path) -> None:
    """Children that left the process group are killed too; what was printed is kept."""
    async with opened(sandbox, folder) as session:
        tag = uuid4().hex
        result = await session.run(_tree(tag), timeout=2)
        assert result.timed_out and result.limit == "wall", result
        assert result.exit_code != 0, result
        assert session.text() == "started\n", session.text()
        _assert_gone(tag)
        assert (await session.run("print('usable')")).exit_code == 0


async def what_a_step_leaves_running_is_ended(sandbox: Sandbox, folder: Path) -> None:
    """A process in the background does not outlive its step."""
    async with opened(sandbox, folder) as session:
        tag = uuid4().hex
        result = await session.run(_tree(tag).replace("time.sleep(600)\n", ""))
        assert result.exit_code == 0, result
        _assert_gone(tag)


async def cancelling_kills_the_code_first(sandbox: Sandbox, folder: Path) -> None:
    """When `run_code` is cancelled the tree is gone within 5 s, and the box goes on."""
    async with opened(sandbox, folder) as session:
        tag = uuid4().hex
        task = asyncio.create_task(session.run(_tree(tag)))
        await session.wait_for("started")
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait([task])
        assert task.cancelled()
        _assert_gone(tag)
        assert (await session.run("print('usable')")).exit_code == 0


async def closing_a_box_ends_its_code(sandbox: Sandbox, folder: Path) -> None:
    """Leaving the context ends everything, also while code runs."""
    async with opened(sandbox, folder) as session:
        tag = uuid4().hex
        task = asyncio.create_task(session.run(_tree(tag)))
        await session.wait_for("started")
    await asyncio.wait([task])
    with contextlib.suppress(SandboxError):
        task.result()
    _assert_gone(tag)


def _tree(tag: str) -> str:
    """Return code that starts a process of its own group, recognizable by `tag`, and waits."""
    child = f"import time; time.sleep(600)  # {tag}"
    return (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "print('started', flush=True)\n"
        "time.sleep(600)\n"
    )


def _assert_gone(tag: str) -> None:
    """Look on this machine; a box that runs elsewhere has to be trusted in this."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            alive = (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            assert not (alive and tag in (process / "cmdline").read_text()), process


CONTRACTS: tuple[Callable[[Sandbox, Path], Awaitable[None]], ...] = (
    both_streams_arrive_in_order,
    output_arrives_while_code_runs,
    all_of_a_flood_arrives,
    exit_codes_are_those_of_python,
    steps_share_files_only,
    records_cannot_be_forged_by_printing,
    files_are_announced_and_again_when_rewritten,
    a_timeout_ends_the_whole_tree,
    what_a_step_leaves_running_is_ended,
    cancelling_kills_the_code_first,
    closing_a_box_ends_its_code,
)
"""Every contract."""
