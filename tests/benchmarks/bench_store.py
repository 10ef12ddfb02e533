"""What storing and delivering costs in CPU time, beside plain sqlite3 doing the same."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from trainable.events import CodeOutput, Event, MetricItem, MetricsBatch
from trainable.stages import Stage
from trainable.storage.database import Database
from trainable.storage.log import EventLog
from trainable.storage.tables import ExperimentRow, SessionRow

ITEMS = 500


def logged(step: int, name: str, value: float, stage: Stage, run: str | None) -> MetricItem:
    return {"step": step, "name": name, "value": value, "stage": stage, "run_tag": run}


BATCH = MetricsBatch(
    stage=Stage.TRAIN,
    items=[logged(n // 4, f"metric_{n % 4}", n * 0.37, Stage.TRAIN, "lgbm") for n in range(ITEMS)],
)
LINE = CodeOutput(stream="stdout", text="x" * 100, stage=Stage.TRAIN)
TABLES = """
CREATE TABLE events (session_id TEXT, seq INTEGER, type TEXT, data TEXT,
                     PRIMARY KEY (session_id, seq));
CREATE TABLE metrics (id INTEGER PRIMARY KEY, session_id TEXT, stage TEXT, step INTEGER,
                      name TEXT, value REAL, run_tag TEXT, created_at TEXT);
CREATE INDEX metrics_of_session ON metrics (session_id);
"""
METRICS = (
    "INSERT INTO metrics (session_id, stage, step, name, value, run_tag, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)

pytestmark = pytest.mark.bench


class Plain:
    """sqlite3 without anything, as durable as the store."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.executescript(TABLES)
        self._seq = count(1)
        self._rows = [
            (
                str(path),
                "train",
                item["step"],
                item["name"],
                item["value"],
                item["run_tag"],
                str(BATCH.time),
            )
            for item in BATCH.items
        ]

    def events(self, texts: list[str]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self._events(texts)
        self.connection.execute("COMMIT")

    def metrics(self, text: str) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self._events([text])
        self.connection.executemany(METRICS, self._rows)
        self.connection.execute("COMMIT")

    def _events(self, texts: list[str]) -> None:
        self.connection.executemany(
            "INSERT INTO events VALUES ('s', ?, 'x', ?)", [(next(self._seq), t) for t in texts]
        )


def microseconds(work: Callable[[], object], times: int) -> float:
    """Return the CPU time of one call, after a few that don't count."""
    for _ in range(3):
        work()
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e6


def report(name: str, ours: float, plain: float) -> None:
    print(f"{name:<44} {ours:9.2f} {plain:9.2f} {ours / plain:6.2f}")


@pytest.fixture
def database(tmp_path: Path):
    opened = Database.open(f"sqlite:///{tmp_path / 'trainable.db'}")
    yield opened
    opened.close()


@pytest.fixture
def session_id(database: Database) -> str:
    experiment = database.add_experiment(ExperimentRow(name="bench"))
    return database.add_session(SessionRow(experiment_id=experiment.id)).id


def test_writing_costs_little_more_than_plain_sqlite(
    database: Database, session_id: str, tmp_path: Path
):
    plain = Plain(tmp_path / "plain.db")
    batch, line = BATCH.model_dump_json(), LINE.model_dump_json()
    hundred: list[Event] = [LINE] * 100
    print(f"\n{'CPU microseconds':<44} {'store':>9} {'sqlite3':>9} {'ratio':>6}")
    metrics = microseconds(lambda: database.append(session_id, [BATCH]), 100) / ITEMS
    bare = microseconds(lambda: plain.metrics(batch), 100) / ITEMS
    report(f"one number in a batch of {ITEMS}", metrics, bare)
    together = microseconds(lambda: database.append(session_id, hundred), 100) / 100
    report(
        "one event of 100 in a call",
        together,
        microseconds(lambda: plain.events([line] * 100), 100) / 100,
    )
    single = microseconds(lambda: database.append(session_id, [LINE]), 200)
    report("one event in a call", single, microseconds(lambda: plain.events([line]), 200))

    def queued() -> None:
        for future in [database.submit(session_id, [LINE]) for _ in range(100)]:
            future.result()

    each = microseconds(queued, 20) / 100
    report("one event in a call, 100 calls at once", each, bare_call := single)
    print("(the last one is compared with the one above it)")
    plain.connection.close()
    assert metrics <= 5.0 or metrics <= 2.5 * bare
    assert each < bare_call


def test_a_writer_waits_little_beside_others(database: Database, session_id: str, tmp_path: Path):
    code = (
        "import sys\n"
        "from trainable.events import Notice\n"
        "from trainable.storage.database import Database\n"
        "database = Database.open(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while True: database.append(sys.argv[2], [Notice(code='c', text='x' * 2000)])\n"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'trainable.db'}", session_id]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    for other in others:
        assert other.stdout is not None
        other.stdout.readline()
    waits: list[float] = []
    for _ in range(200):
        began = time.perf_counter()
        database.append(session_id, [LINE])
        waits.append((time.perf_counter() - began) * 1000)
    for other in others:
        other.kill()
        other.communicate()
    waits.sort()
    print(
        f"\nms for an append while two processes write without a pause: "
        f"median {waits[100]:.1f}, p99 {waits[198]:.1f}, longest {waits[-1]:.1f}"
    )
    assert waits[198] < 250


async def test_delivering_costs_the_same_for_many_readers(database: Database, session_id: str):
    print(f"\n{'readers':>7} {'CPU us per delivery':>22}")
    for readers in (1, 10, 100):
        log, first = EventLog(database, session_id), database.last_seq(session_id)
        last = first + 1000
        following = [asyncio.create_task(read(log, first, last)) for _ in range(readers)]
        await asyncio.sleep(0)
        began = time.process_time()
        for _ in range(50):
            await log.append(*[LINE] * 20)
        counts = await asyncio.gather(*following)
        spent = time.process_time() - began
        assert counts == [1000] * readers
        print(f"{readers:>7} {spent / 1000 / readers * 1e6:>22.2f}")


async def test_waiting_costs_next_to_nothing(database: Database, session_id: str):
    await asyncio.sleep(0)
    for readers in (1, 100):
        log = EventLog(database, session_id)
        waiting = [asyncio.create_task(read(log, 0, 1)) for _ in range(readers)]
        await idle(1.0)
        began = time.process_time()
        await idle(3.0)
        spent = (time.process_time() - began) / 3
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        print(f"{readers} waiting readers: {spent * 100:.2f} % of one CPU")


def idle(seconds: float) -> Awaitable[None]:
    return asyncio.sleep(seconds)


async def read(log: EventLog, after: int, until: int) -> int:
    return sum([len(batch) async for batch in log.follow(after, lambda: until)])
