"""Appending to a session's log and following it."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from trainable.errors import LeaseLostError, NotFoundError
from trainable.events import AgentDelta, Notice, RunStarted
from trainable.stages import RunState
from trainable.storage.database import Database
from trainable.storage.events import AnyEvent
from trainable.storage.lease import this_owner
from trainable.storage.log import EventLog
from trainable.storage.tables import ExperimentRow, RunRow, SessionRow


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'trainable.db'}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture
def elsewhere(url: str) -> Iterator[Database]:
    """The same database as another process sees it."""
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture
def session_id(database: Database) -> str:
    experiment = database.add_experiment(ExperimentRow(name="x"))
    return database.add_session(SessionRow(experiment_id=experiment.id)).id


@pytest.fixture
async def log(database: Database, session_id: str) -> EventLog:
    return EventLog(database, session_id)


def note(text: str = "x") -> Notice:
    return Notice(code="test", text=text)


async def collect(batches: AsyncIterator[list[AnyEvent]]) -> list[int]:
    return [event.seq async for batch in batches for event in batch]


async def until_seq(batches: AsyncIterator[list[AnyEvent]], seq: int) -> list[AnyEvent]:
    """Read until the event numbered `seq` has come."""
    found: list[AnyEvent] = []
    async for batch in batches:
        found += batch
        if batch[-1].seq >= seq:
            break
    return found


async def test_appended_events_are_stored_and_numbered(
    log: EventLog, database: Database, session_id: str
):
    stored = await log.append(note("a"), note("b"))
    assert [event.seq for event in stored] == [1, 2]
    assert database.read_events(session_id) == stored


async def test_a_reader_gets_what_was_stored_and_then_what_comes(log: EventLog):
    await log.append(note("a"), note("b"))
    batches = log.follow()
    assert [event.seq for event in await anext(batches)] == [1, 2]
    waiting = asyncio.ensure_future(anext(batches))
    await log.append(note("c"))
    assert [event.seq for event in await waiting] == [3]
    await log.append(note("d"), note("e"))
    assert [event.seq for event in await anext(batches)] == [4, 5]


async def test_reading_ends_after_the_last_event(log: EventLog):
    await log.append(note(), note(), note())
    assert await collect(log.follow(until=lambda: 2)) == [1, 2]
    assert await collect(log.follow(after=1, until=lambda: 3)) == [2, 3]
    assert await collect(log.follow(after=3, until=lambda: 3)) == []


async def test_readers_that_wait_end_once_the_last_event_is_known(log: EventLog):
    await log.append(note())
    end: list[int] = []
    readers = [
        asyncio.create_task(collect(log.follow(until=lambda: end[0] if end else None)))
        for _ in range(3)
    ]
    await until_seq(log.follow(), 1)
    end.append(1)
    log.wake()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*readers) == [[1], [1], [1]]


async def test_an_end_that_nobody_announces_is_found_out(log: EventLog):
    await log.append(note())
    end: list[int] = []
    readers = [
        asyncio.create_task(collect(log.follow(until=lambda: end[0] if end else None)))
        for _ in range(2)
    ]
    await until_seq(log.follow(), 1)
    end.append(1)
    async with asyncio.timeout(10):
        assert await asyncio.gather(*readers) == [[1], [1]]


async def test_events_from_another_process_arrive_without_being_announced(
    log: EventLog, elsewhere: Database, session_id: str
):
    await log.append(note("mine"))
    batches = log.follow(after=1)
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.to_thread(elsewhere.append, session_id, [note("theirs")])
    async with asyncio.timeout(10):
        assert [event.seq for event in await waiting] == [2]


async def test_nothing_is_lost_or_doubled_when_processes_take_turns(
    log: EventLog, elsewhere: Database, session_id: str
):
    dice = random.Random(42)
    readers = [asyncio.create_task(collect(log.follow(until=lambda: 300))) for _ in range(3)]
    for number in range(100):
        events = [note(), note(), note()]
        if dice.random() < 0.5:
            await log.append(*events)
        else:
            await asyncio.to_thread(elsewhere.append, session_id, events)
        if number % 20 == 0:
            readers.append(asyncio.create_task(collect(log.follow(until=lambda: 300))))
    async with asyncio.timeout(30):
        assert await asyncio.gather(*readers) == [[*range(1, 301)]] * len(readers)


async def test_appends_at_the_same_time_reach_everyone_in_order(log: EventLog):
    reader = asyncio.create_task(collect(log.follow(until=lambda: 200)))
    await asyncio.gather(*(log.append(note(), note()) for _ in range(100)))
    assert await reader == [*range(1, 201)]


async def test_what_is_only_delivered_comes_in_its_place(log: EventLog, session_id: str):
    batches = log.follow()
    waiting = asyncio.ensure_future(until_seq(batches, 2))
    async with asyncio.timeout(10):
        await log.append(note("a"))
        await log.append(AgentDelta(text="b"), AgentDelta(text="c"), note("d"))
        found = await waiting
    assert [event.type for event in found if event.seq == 0] == ["agent_delta"] * 2
    assert [event.seq for event in found] == [1, 0, 0, 2]
    assert {event.session_id for event in found} == {session_id}
    assert [event.seq for event in await until_seq(log.follow(), 2)] == [1, 2]


async def test_what_another_call_stored_can_be_delivered(
    log: EventLog, database: Database, session_id: str
):
    batches = log.follow()
    waiting = asyncio.ensure_future(anext(batches))
    run = RunRow(session_id=session_id, stage="eda")
    started = RunStarted(run_id=run.id, agent="playbook")
    lease, events = await asyncio.to_thread(database.start_run, run, this_owner(), [started])
    log.deliver(events)
    assert await waiting == events
    await log.append(note(), lease=lease)
    await asyncio.to_thread(database.end_run, lease, RunState.DONE, None, [note()])
    log.wake()
    assert [event.seq for event in await until_seq(batches, 3)] == [2, 3]


async def test_a_long_past_comes_in_pieces(log: EventLog, database: Database, session_id: str):
    database.append(session_id, [note()] * 2500)
    sizes = [len(batch) async for batch in log.follow(until=lambda: 2500)]
    assert sizes == [1000, 1000, 500]


async def test_a_slow_reader_loses_nothing(log: EventLog):
    await log.append(note())
    batches = log.follow()
    assert [event.seq for event in await anext(batches)] == [1]
    for _ in range(4):
        await log.append(*[note()] * 500)
    rest = await until_seq(batches, 2001)
    assert [event.seq for event in rest] == [*range(2, 2002)]


async def test_readers_that_leave_disturb_nobody(
    log: EventLog, elsewhere: Database, session_id: str
):
    await log.append(note())
    leaving = [asyncio.create_task(collect(log.follow())) for _ in range(3)]
    staying = asyncio.create_task(collect(log.follow(until=lambda: 2)))
    await until_seq(log.follow(), 1)
    for reader in leaving:
        reader.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await asyncio.to_thread(elsewhere.append, session_id, [note()])
    async with asyncio.timeout(10):
        assert await staying == [1, 2]


async def test_events_that_cannot_be_stored_reach_nobody(
    log: EventLog, database: Database, session_id: str
):
    run = RunRow(session_id=session_id, stage="eda")
    lease, _ = database.start_run(run, this_owner(), [note()])
    database.end_run(lease, RunState.FAILED, "test", [note()])
    with pytest.raises(LeaseLostError):
        await log.append(note("late"), lease=lease)
    await log.append(note("after"))
    found = await until_seq(log.follow(), 3)
    assert [event.model_dump().get("text") for event in found] == ["x", "x", "after"]


async def test_the_log_of_no_session_cannot_be_followed(database: Database):
    with pytest.raises(NotFoundError, match="no session 'nope'"):
        await collect(EventLog(database, "nope").follow())
