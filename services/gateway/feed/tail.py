"""The tail: the newest entries in memory, followed by everybody who listens in this process."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from dataaggregator.bus import Bus
from dataaggregator.bus.signals import Signal
from dataaggregator.clock import Clock
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs

from . import store
from .domain import TOPIC, Entry, Wanted

POLL_SECONDS = 0.5
AT_ONCE = 500
KEPT_IN_MEMORY = 5_000
KEPT_BYTES = 32 * 1024 * 1024
"""As text; what is decoded takes some times as much."""
PROGRESS_KEPT = 100
RETENTION_SECONDS = 7 * 24 * 3600
SWEEP_EVERY_SECONDS = 600.0

log = logs.get("feed")


class Listener:
    """One stream's ear: `heard` is set when there may be something new; progress waits here, the oldest goes."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.heard = asyncio.Event()
        self.progress: deque[Entry] = deque(maxlen=PROGRESS_KEPT)


class Tail:
    """Follows the feed; entries after `memory_floor` and up to `position` are in memory, all of them."""

    name = "feed"

    def __init__(self, database: Database, bus: Bus, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._listeners: set[Listener] = set()
        self._reading = asyncio.Lock()
        self._stop_observing: Callable[[], None] | None = None
        self.position = 0
        self.memory_floor = 0

    async def open(self) -> None:
        async with self._database.platform() as tx:
            self.position = self.memory_floor = await store.newest(tx)
        self._stop_observing = self._bus.observe(self._observe)

    async def close(self) -> None:
        if self._stop_observing is not None:
            self._stop_observing()
            self._stop_observing = None

    async def ping(self) -> None:
        """As well as the database is."""

    async def follow(self) -> None:
        """The loop: woken when this process appends, and looking by itself for what others appended."""
        signal = Signal(TOPIC)
        while True:
            signal.clear()
            try:
                await self.catch_up()
            except Transient as error:
                log.warning("feed_behind", code=error.code)
            await signal.wait(POLL_SECONDS)

    async def catch_up(self) -> None:
        """Take in everything that is committed now."""
        async with self._reading:
            while True:
                async with self._database.glance() as tx:
                    entries, more = await store.after(tx, self.position, AT_ONCE)
                if entries:
                    self._take_in(entries)
                if not more:
                    return

    def recent(self, position: int) -> list[Entry] | None:
        """The entries after `position`, or None when they reach further back than memory does."""
        if position < self.memory_floor:
            return None
        fresh: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.position is not None and entry.position <= position:
                break
            fresh.append(entry)
        return fresh[::-1]

    async def floor(self) -> int:
        """What the retention has removed up to now: whichever replica did it."""
        async with self._database.glance() as tx:
            return await store.floor(tx)

    async def older(self, wanted: Wanted, position: int) -> tuple[list[Entry], int] | None:
        """Some entries after `position` from the database, and the position up to which that is all; None if the
        retention has taken some of them."""
        until = self.position
        async with self._database.transaction(wanted.workspace_id) as tx:
            entries, more = await store.wanted_after(tx, wanted, position, until, AT_ONCE)
            # Asked for last: what was removed before the entries were read is below it.
            if position < await store.floor(tx):
                return None
        last = entries[-1].position if more else until
        return entries, until if last is None else last

    @contextmanager
    def listening(self, wanted: Wanted) -> Iterator[Listener]:
        listener = Listener(wanted)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def sweep(self) -> None:
        """The loop that removes what is older than the retention."""
        while True:
            try:
                await self.forget_old()
            except Transient as error:
                log.warning("sweep_postponed", code=error.code)
            await asyncio.sleep(SWEEP_EVERY_SECONDS)

    async def forget_old(self) -> None:
        limit = self._clock.now() - timedelta(seconds=RETENTION_SECONDS)
        removed = AT_ONCE
        while removed == AT_ONCE:
            async with self._database.platform() as tx:
                removed = await store.remove_older(tx, limit, AT_ONCE)

    def _take_in(self, entries: list[Entry]) -> None:
        self._entries.extend(entries)
        self._bytes += sum(entry.size_bytes for entry in entries)
        self.position = entries[-1].position or self.position
        while len(self._entries) > KEPT_IN_MEMORY or self._bytes > KEPT_BYTES:
            oldest = self._entries.popleft()
            self._bytes -= oldest.size_bytes
            self.memory_floor = oldest.position or self.memory_floor
        for listener in self._listeners:
            if any(listener.wanted.fits(entry) for entry in entries):
                listener.heard.set()

    def _observe(self, event: Event) -> None:
        entry = Entry(None, event.workspace_id, event.type, event.subject, event.cloudevent())
        for listener in self._listeners:
            if listener.wanted.fits(entry):
                listener.progress.append(entry)
                listener.heard.set()
