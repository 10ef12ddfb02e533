"""What a warm step and its walls cost beside a cold process, and what much output costs."""

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainable.sandbox.base import BoxSpec, Output
from trainable.sandbox.driver import descendants
from trainable.sandbox.isolation import LEVELS, probe
from trainable.sandbox.limits import Limits
from trainable.sandbox.local import STACK, LocalSandbox

pytestmark = pytest.mark.bench
STEPS = 100
LINES = 1_000_000
TICK = os.sysconf("SC_CLK_TCK")
PRINT = f"for i in range({LINES}): print(i)"
FLOOD = "import os\nfor _ in range(16384): os.write(1, b'x' * 65535 + b'\\n')"
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Cost:
    """Milliseconds."""

    cpu: float
    wall: float


def cpu_seconds() -> float:
    """Return what this process and everything below it has used, the living included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(usage.ru_utime + usage.ru_stime for usage in used)
    for pid in descendants(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / TICK
    return total


def resident(pid: int | str = "self") -> float:
    """Return the memory of a process in megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6


def cold() -> Cost:
    code = "\n".join(f"import {name}" for name in STACK)
    costs: list[Cost] = []
    for _ in range(3):
        cpu, wall = cpu_seconds(), time.perf_counter()
        subprocess.run([sys.executable, "-u", "-c", code], check=True)
        costs.append(Cost((cpu_seconds() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3))
    return min(costs, key=lambda cost: cost.cpu)


async def in_box(
    level: str, folder: Path, work: Callable[[Any], Awaitable[Any]], preload: tuple[str, ...]
) -> Any:
    spec = BoxSpec(workdir=folder, preload=preload, limits=Limits(output=4 << 30))
    async with LocalSandbox(isolation=level).open(spec) as box:
        return await work(box)


async def warm(level: str, folder: Path) -> Cost:
    async def push(item: object) -> None:
        pass

    async def work(box: Any) -> Cost:
        script = folder / "step.py"
        await box.run_code("pass", script=script, timeout=60, push=push)
        walls: list[float] = []
        cpu = cpu_seconds()
        for _ in range(STEPS):
            wall = time.perf_counter()
            await box.run_code("pass", script=script, timeout=60, push=push)
            walls.append((time.perf_counter() - wall) * 1e3)
        return Cost((cpu_seconds() - cpu) * 1e3 / STEPS, statistics.median(walls))

    return await in_box(level, folder, work, STACK)


def test_cost_of_a_step(tmp_path: Path) -> None:
    rows = {"cold python -u": cold(), "no walls": asyncio.run(warm("none", tmp_path))}
    for level in LEVELS:
        if probe(level).reason is None:
            rows[level] = asyncio.run(warm(level, tmp_path))
    base = rows["cold python -u"]
    print("\n\nMilliseconds for one step, `pass` where it is warm (goals: 1/100 CPU, 1/50 wall)")
    for name, cost in rows.items():
        shares = f"1/{base.cpu / cost.cpu:<8.0f}1/{base.wall / cost.wall:<8.0f}"
        print(f"  {name:<18}CPU{cost.cpu:>9.2f}   wall{cost.wall:>9.2f}   {shares}")
    for name, cost in list(rows.items())[1:]:
        assert base.cpu / cost.cpu > 100 and base.wall / cost.wall > 50, name
        assert cost.cpu - rows["no walls"].cpu < 3, name


def bare_reader() -> Cost:
    code = f"import sys\nsys.stdout.reconfigure(line_buffering=True)\n{PRINT}"
    cpu, wall = cpu_seconds(), time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, bufsize=0)
    lines = 0
    while data := os.read(process.stdout.fileno(), 1 << 16):
        lines += data.count(b"\n")
    process.wait()
    process.stdout.close()
    assert lines == LINES
    return Cost((cpu_seconds() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3)


async def printing(level: str, folder: Path) -> Cost:
    lines = 0

    async def push(item: object) -> None:
        nonlocal lines
        if isinstance(item, Output):
            lines += item.text.count("\n")

    async def work(box: Any) -> Cost:
        await box.run_code("pass", script=folder / "a.py", timeout=60, push=push)
        cpu, wall = cpu_seconds(), time.perf_counter()
        await box.run_code(PRINT, script=folder / "a.py", timeout=300, push=push)
        return Cost((cpu_seconds() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3)

    cost = await in_box(level, folder, work, ())
    assert lines == LINES
    return cost


def test_cost_of_a_million_lines(tmp_path: Path) -> None:
    level = next((level for level in LEVELS if probe(level).reason is None), "none")
    bare = min((bare_reader() for _ in range(3)), key=lambda cost: cost.cpu)
    runs = [asyncio.run(printing(level, tmp_path)) for _ in range(3)]
    ours = min(runs, key=lambda cost: cost.cpu)
    print(f"\n\nA million printed lines, milliseconds (goal: 2 x a bare reader), {level}")
    for name, cost in (("bare pipe reader", bare), ("a step", ours)):
        print(f"  {name:<18}CPU{cost.cpu:>9.0f}   wall{cost.wall:>9.0f}")
    print(f"  ratio: CPU {ours.cpu / bare.cpu:.2f}, wall {ours.wall / bare.wall:.2f}")
    assert ours.cpu < 2 * bare.cpu


async def flood(level: str, folder: Path) -> tuple[int, float, float]:
    """Return the bytes that came, and by how many megabytes host and driver grew."""
    count, before, host, drivers = 0, resident(), 0.0, 0.0

    async def push(item: object) -> None:
        nonlocal count, host, drivers
        if isinstance(item, Output):
            count += len(item.text)
            host = max(host, resident() - before)
            if count % (64 << 20) < 1 << 16:
                drivers = max(drivers, *map(resident, descendants(os.getpid())))

    async def work(box: Any) -> None:
        result = await box.run_code(FLOOD, script=folder / "a.py", timeout=300, push=push)
        assert result.exit_code == 0, result

    await in_box(level, folder, work, ())
    return count, host, drivers


def test_memory_under_a_flood(tmp_path: Path) -> None:
    level = next((level for level in LEVELS if probe(level).reason is None), "none")
    count, host, drivers = asyncio.run(flood(level, tmp_path))
    print(f"\n\nA flood of {count / 1e9:.2f} GB: the host grew by {host:.1f} MB, ", end="")
    print(f"the largest process of the box had {drivers:.1f} MB")
    assert count == 16384 * 65536
    assert host < 32
    assert drivers < 100
