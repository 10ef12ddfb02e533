"""Turns what a running step does into events, gathered over 50 ms and in order."""

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from pydantic import ValidationError

from trainable.events import (
    Chart,
    ChartConfig,
    CodeOutput,
    Event,
    MetricItem,
    MetricsBatch,
    Notice,
)
from trainable.sandbox.base import Changed, Output, Record
from trainable.stages import Stage

Emit = Callable[..., Awaitable[object]]
"""Stores one or more events of the run, then delivers them."""
AGENT_CHARACTERS = 30_000
"""What an agent gets to read of one step."""
STREAM_CHARACTERS = 2_000_000
"""Output of one step above which it is not streamed any more; its end is still kept."""
FLUSH_SECONDS = 0.05
WAITING_ITEMS = 500
"""Chunks of at most 64 KiB that may wait for the log."""
NAME_CHARACTERS = 200


class Stream:
    """What one step did so far."""

    def __init__(self, emit: Emit, announce: Callable[[Changed], Event], stage: Stage) -> None:
        self._emit = emit
        self._announce = announce
        self._stage = stage
        self._waiting: list[Output | Record | Changed] = []
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._streamed = 0
        self._clip = _Clip()
        self.files: list[str] = []
        """Files written, relative to the working directory."""

    async def push(self, item: Output | Record | Changed) -> None:
        """Take one thing that the step did; waits while the log is far behind."""
        self._waiting.append(item)
        self._wake.set()
        if len(self._waiting) >= WAITING_ITEMS:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Flush, at most every 50 ms, until `close`."""
        while not self._closing.is_set():
            await self._wake.wait()
            await self.flush()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._closing.wait()

    def close(self) -> None:
        """Let `run` end after a last flush; it is not cancelled, since that could lose events."""
        self._closing.set()
        self._wake.set()

    async def flush(self) -> None:
        """Store and deliver everything that waits."""
        items, self._waiting = self._waiting, []
        self._wake.clear()
        self._room.set()
        if events := self._events(items):
            await self._emit(*events)

    def text(self) -> str:
        """Return what the agent gets to read: the output, clipped head and tail."""
        return self._clip.text()

    def _events(self, items: Sequence[Output | Record | Changed]) -> list[Event]:
        events: list[Event] = []
        for kind, group in itertools.groupby(items, key=_kind):
            if kind == "metrics":
                calls = itertools.chain(*(cast(Record, item).data for item in group))
                events += read_metrics(calls, self._stage)
            elif kind == "charts":
                events += read_charts([cast(Record, item).data for item in group])
            elif kind == "files":
                changes = [cast(Changed, item) for item in group]
                self.files += [change.path for change in changes]
                events += [self._announce(change) for change in changes]
            else:
                events += self._output([cast(Output, item) for item in group])
        return events

    def _output(self, outputs: list[Output]) -> list[Event]:
        text = "".join(output.text for output in outputs)
        self._clip.add(text)
        if self._streamed >= STREAM_CHARACTERS:
            return []
        text = text[: STREAM_CHARACTERS - self._streamed]
        self._streamed += len(text)
        events: list[Event] = [CodeOutput(stream=outputs[0].stream, text=text)]
        if self._streamed >= STREAM_CHARACTERS:
            note = f"The step printed more than {STREAM_CHARACTERS:,} characters."
            events.append(Notice(code="output_clipped", text=note, remedy="Only its end is kept."))
        return events


@asynccontextmanager
async def streaming(
    emit: Emit, announce: Callable[[Changed], Event], stage: Stage
) -> AsyncGenerator[Stream]:
    """Give a stream for one step; it is flushed to its end, also when the step is cancelled.

    Raises:
        StorageError: The events could not be stored.
    """
    stream = Stream(emit, announce, stage)
    flusher = asyncio.create_task(stream.run())
    try:
        yield stream
    finally:
        stream.close()
        await asyncio.wait([flusher])
        flusher.result()
        await stream.flush()


def read_metrics(calls: Iterable[Any], stage: Stage) -> list[Event]:
    """Return the numbers of `log()` calls as one batch, and a notice for what was no number.

    Args:
        calls: Unchecked `[step, {name: value}, run]` records.
        stage: The stage that logged.
    """
    items: list[MetricItem] = []
    not_finite: set[str] = set()
    refused = 0
    for call in calls:
        try:
            step, metrics, run = call
            if type(step) is not int or not (run is None or type(run) is str):
                raise TypeError
            tag = run and run[:NAME_CHARACTERS]
            for name, value in metrics.items():
                if not (type(value) is float or type(value) is int):
                    raise TypeError
                number = float(value) if math.isfinite(value) else None
                name = name[:NAME_CHARACTERS]
                if number is None:
                    not_finite.add(name)
                items.append(
                    {"step": step, "name": name, "value": number, "stage": stage, "run_tag": tag}
                )
        except (TypeError, ValueError, AttributeError, OverflowError):
            refused += 1
    events: list[Event] = []
    if items:
        # Not validated again: each item was checked above, and there may be a million.
        events.append(MetricsBatch.model_construct(items=items, not_finite=sorted(not_finite)))
    if refused:
        text = f"{refused} call(s) of log() held something that is no number."
        remedy = 'Call log(step=1, metrics={"loss": 0.5}, run="name").'
        events.append(Notice(code="metric_refused", text=text, remedy=remedy))
    return events


def read_charts(records: Iterable[Any]) -> list[Event]:
    """Return what `configure_dashboard()` asked for; charts that make no sense are a notice."""
    events: list[Event] = []
    for record in records:
        try:
            charts = [Chart.model_validate(chart) for chart in record]
            events.append(ChartConfig(charts=charts))
        except (TypeError, ValidationError):
            text = "configure_dashboard() was given something that is no list of charts."
            remedy = 'Each chart is {"title": ..., "metrics": [...], "type": "line"}.'
            events.append(Notice(code="charts_refused", text=text, remedy=remedy))
    return events


def _kind(item: Output | Record | Changed) -> str:
    match item:
        case Output(stream=stream):
            return stream
        case Record(kind=kind):
            return kind
        case Changed():
            return "files"


class _Clip:
    """Keeps the head and the tail of a long text."""

    def __init__(self) -> None:
        self._head, self._tail, self._left_out = "", "", 0

    def add(self, text: str) -> None:
        room = AGENT_CHARACTERS // 2
        space = room - len(self._head)
        self._head += text[:space]
        tail = self._tail + text[space:]
        self._tail = tail[-room:]
        self._left_out += len(tail) - len(self._tail)

    def text(self) -> str:
        gap = f"\n[... {self._left_out:,} characters left out ...]\n" if self._left_out else ""
        return f"{self._head}{gap}{self._tail}"
