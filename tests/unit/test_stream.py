"""What a step does becomes events: all of it, in order, and none of it twice."""

import asyncio

import pytest

from trainable.errors import StorageError
from trainable.events import Event, FileCreated
from trainable.sandbox.base import Changed, Output, Record
from trainable.stages import Stage
from trainable.stream import streaming


def announce(change: Changed) -> Event:
    return FileCreated(path=change.path, name=change.path, size=change.size)


class SlowLog:
    """Keeps events, but only once it is released."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.released = asyncio.Event()
        self.kept: list[Event] = []

    async def emit(self, *events: Event) -> None:
        self.asked.set()
        await self.released.wait()
        self.kept += events


async def test_what_is_being_stored_when_the_step_ends_is_not_lost():
    log = SlowLog()

    async def step() -> None:
        async with streaming(log.emit, announce, Stage.EDA) as stream:
            await stream.push(Output("stdout", "early"))
            await log.asked.wait()
            await stream.push(Output("stdout", "late"))

    task = asyncio.create_task(step())
    await log.asked.wait()
    log.released.set()
    await task
    assert [event.text for event in log.kept] == ["early", "late"]


async def test_kinds_keep_their_order_and_neighbors_are_joined():
    log = SlowLog()
    log.released.set()
    items = [
        Output("stdout", "a"),
        Output("stdout", "b"),
        Output("stderr", "c"),
        Record("metrics", [[1, {"x": 1.0}, None]]),
        Record("metrics", [[2, {"x": 2.0}, "m"]]),
        Changed("f.png", 3),
        Record("charts", [{"title": "X", "metrics": ["x"], "type": "line"}]),
        Record("charts", "nonsense"),
    ]
    async with streaming(log.emit, announce, Stage.TRAIN) as stream:
        for item in items:
            await stream.push(item)
    told = [event.type for event in log.kept]
    assert told == [
        *("code_output", "code_output", "metrics_batch"),
        *("file_created", "chart_config", "notice"),
    ]
    assert log.kept[2].metrics() == [(1, {"x": 1.0}, None), (2, {"x": 2.0}, "m")]
    assert stream.files == ["f.png"]
    assert stream.text() == "abc"


async def test_a_log_that_fails_fails_the_step():
    async def emit(*_: Event) -> None:
        raise StorageError("The disk is full.")

    with pytest.raises(StorageError):
        async with streaming(emit, announce, Stage.EDA) as stream:
            await stream.push(Output("stdout", "a"))


@pytest.mark.parametrize(
    "call",
    [
        "text",
        [1, {"x": 1}],
        [1.5, {"x": 1}, None],
        [1, {"x": "one"}, None],
        [1, {"x": True}, None],
        [1, {"x": 10**400}, None],
        [1, ["x"], None],
        [1, {"x": 1}, ["run"]],
        None,
    ],
)
async def test_a_call_of_log_that_makes_no_sense_is_a_notice(call):
    log = SlowLog()
    log.released.set()
    async with streaming(log.emit, announce, Stage.EDA) as stream:
        await stream.push(Record("metrics", [call]))
    assert [event.type for event in log.kept] == ["notice"]
    assert log.kept[0].code == "metric_refused"
