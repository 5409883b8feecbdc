"""Streams: what one listener is sent, without gap and without double."""

import asyncio
from collections.abc import AsyncIterator

import orjson

from dataaggregator.http.sse import ServerSentEvent

from .domain import TERMINAL, Entry, Wanted, reset, resumable
from .tail import Listener, Tail

# The end of a run reaches the scheduler and the feed each on its own way; for so long the feed may be behind.
ENDED_WAIT_SECONDS = 5.0


class Streams:
    """Makes the streams of one tail."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail

    async def events(self, wanted: Wanted, last_id: int | None) -> AsyncIterator[ServerSentEvent]:
        """What is wanted, from now on or after `last_id`.

        "Now" is when this returns: whatever is committed after that will be sent.
        """
        floor = await self._caught_up()
        return self._events(wanted, *self._begin(last_id, floor, self._tail.position))

    async def run(self, wanted: Wanted, last_id: int | None, *, ended: bool) -> AsyncIterator[ServerSentEvent]:
        """One run from its beginning to its end; `ended` when the scheduler says that it has ended already."""
        floor = await self._caught_up()
        seconds = ENDED_WAIT_SECONDS if ended else None
        return self._run(self._events(wanted, *self._begin(last_id, floor, floor)), seconds)

    async def _caught_up(self) -> int:
        """Another replica may have sent its listener further than we have read, and removed more than we have; the
        answer is the floor."""
        await self._tail.catch_up()
        return await self._tail.floor()

    def _begin(self, last_id: int | None, floor: int, start: int) -> tuple[int, list[ServerSentEvent]]:
        """The position to go on from, and what is said before."""
        if last_id is not None and resumable(last_id, floor, self._tail.position):
            return last_id, []
        return start, [] if last_id is None else [reset(start)]

    async def _events(
        self, wanted: Wanted, position: int, beginning: list[ServerSentEvent]
    ) -> AsyncIterator[ServerSentEvent]:
        for said in beginning:
            yield said
        with self._tail.listening(wanted) as listener:
            async for said in self._follow(listener, position):
                yield said

    async def _run(
        self, events: AsyncIterator[ServerSentEvent], seconds: float | None
    ) -> AsyncIterator[ServerSentEvent]:
        """Up to the event that ends the run; for `seconds` at most without any."""
        while (event := await _next(events, seconds)) is not None:
            yield event
            if event.event is None and orjson.loads(event.data)["type"] in TERMINAL:
                return

    async def _follow(self, listener: Listener, position: int) -> AsyncIterator[ServerSentEvent]:
        while True:
            listener.heard.clear()
            if (more := await self._more(listener.wanted, position)) is None:
                position = self._tail.position
                yield reset(position)
                continue
            entries, position = more
            for entry in entries:
                yield entry.sent()
            if position < self._tail.position:
                continue
            while listener.progress:
                yield listener.progress.popleft().sent()
            await listener.heard.wait()

    async def _more(self, wanted: Wanted, position: int) -> tuple[list[Entry], int] | None:
        """The next wanted entries and the position they reach; None if some were removed meanwhile."""
        recent = self._tail.recent(position)
        if recent is None:
            return await self._tail.older(wanted, position)
        return [entry for entry in recent if wanted.fits(entry)], self._tail.position


async def _next(events: AsyncIterator[ServerSentEvent], seconds: float | None) -> ServerSentEvent | None:
    """The next one; None at the end, or when there was none for so long."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(events, None)
    except TimeoutError:
        return None
