"""One session's log in this process: stores events, then wakes readers, who hold only a cursor."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from trainable.events import Event
from trainable.storage.database import Database
from trainable.storage.events import AnyEvent
from trainable.storage.lease import Lease

POLL = 0.15
"""Seconds between two looks for events that other processes stored."""
_PAGE = 1000  # events that a reader gets, and that are kept for those who keep up


def _never() -> None:
    return None


class EventLog:
    """Appends to and follows the log of one session; belongs to one event loop.

    Events that went through this process are kept for a while, so that any number of readers
    that keep up cost no query. A reader that falls behind reads the database; it can miss
    transient events, and nothing else.
    """

    def __init__(self, database: Database, session_id: str) -> None:
        self._database = database
        self._session_id = session_id
        self._recent: deque[AnyEvent] = deque(maxlen=_PAGE)
        self._delivered = 0  # how many events `_recent` has been given so far
        self._last = 0  # highest `seq` known to be stored
        self._changed = asyncio.Event()
        self._counter: int | None = None  # of the database, when `_last` was read
        self._watched = False
        self._reading = asyncio.Lock()
        self._page: tuple[int, list[AnyEvent]] = (0, [])  # `after`, and what follows it

    async def append(self, *events: Event, lease: Lease | None = None) -> list[Event]:
        """Store the events, then let readers have them; returns the stored ones, numbered.

        Transient events are delivered without being stored. Cancelled meanwhile, the events may
        have been stored or not.

        Raises:
            LeaseLostError: `lease` was given, and another process holds it by now.
            StorageError: They could not be stored, and nobody gets to see them.
        """
        kept = [event for event in events if not event.transient]
        stored: list[Event] = []
        if kept:
            stored = await asyncio.wrap_future(self._database.submit(self._session_id, kept, lease))
        numbered, mine = iter(stored), {"session_id": self._session_id}
        self.deliver([e.model_copy(update=mine) if e.transient else next(numbered) for e in events])
        return stored

    def deliver(self, events: Sequence[AnyEvent]) -> None:
        """Let readers have events that were stored without this log, as `start_run` does."""
        self._recent.extend(events)
        self._delivered += len(events)
        self._last = max([self._last, *(event.seq for event in events)])
        self._wake()

    def wake(self) -> None:
        """Make readers look into the database, and ask `until` again, now."""
        self._counter = None
        self._wake()

    async def follow(
        self, after: int = 0, until: Callable[[], int | None] = _never
    ) -> AsyncIterator[list[AnyEvent]]:
        """Yield batches of events with `seq > after`: the stored ones, then live ones.

        Ends after the event whose number `until` returns, once that is not None.
        """
        position = self._delivered
        while True:
            changed = self._changed
            if self._counter is None:
                await self._look()
            end = until()
            if end is not None and after >= end:
                return
            batch, position = self._live(position, after)
            if not batch and after < self._last:
                batch = await self._read(after)
            if end is not None:
                batch = [event for event in batch if event.seq <= end]
            if batch:
                after = max(after, *(event.seq for event in batch), 0)
                yield batch
            else:
                await self._wait(changed)

    def _live(self, position: int, after: int) -> tuple[list[AnyEvent], int]:
        """Return the kept events that come next for a reader, and its new position in them.

        A number that is missing (another process stored it) ends the batch: the reader has to
        get that from the database first.
        """
        first = self._delivered - len(self._recent)
        batch: list[AnyEvent] = []
        for place in range(max(position, first), self._delivered):
            event = self._recent[place - first]
            if event.transient:
                batch.append(event)
            elif event.seq == after + 1:
                batch.append(event)
                after += 1
            elif event.seq > after:
                return batch, place
            else:  # known already, and so is what came before it
                batch = [kept for kept in batch if not kept.transient]
        return batch, self._delivered

    async def _read(self, after: int) -> list[AnyEvent]:
        """Return stored events; readers at the same place share one query."""
        async with self._reading:
            if self._page[0] != after or not self._page[1]:
                self._page = (
                    after,
                    await asyncio.to_thread(
                        self._database.read_events, self._session_id, after, _PAGE
                    ),
                )
            return list(self._page[1])

    async def _wait(self, changed: asyncio.Event) -> None:
        """Wait until there may be something new; one reader looks at the database for all."""
        if self._watched:
            await changed.wait()
            return
        self._watched = True
        try:
            async with asyncio.timeout(POLL):
                await changed.wait()
        except TimeoutError:
            await self._look()
        finally:
            self._watched = False
            self._wake()

    async def _look(self) -> None:
        """Find out whether another process stored something."""
        counter = await asyncio.to_thread(self._database.change_counter)
        if counter != self._counter:
            last = await asyncio.to_thread(self._database.last_seq, self._session_id)
            self._counter, self._last = counter, max(self._last, last)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
