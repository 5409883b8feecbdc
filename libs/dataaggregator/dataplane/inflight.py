"""The bounded queue between two workers of a run: at most so many batches and so many bytes in flight."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import pyarrow as pa

from dataaggregator.dataplane.batch import parts

IN_FLIGHT_BATCHES = 4
IN_FLIGHT_BYTES = 3 * 1024 * 1024


class BatchQueue:
    """One producer, one consumer. A batch larger than the bound waits in pieces, one after the other; a row that is
    larger by itself passes alone."""

    def __init__(self, batches: int = IN_FLIGHT_BATCHES, size_bytes: int = IN_FLIGHT_BYTES) -> None:
        self._batches = batches
        self._size_bytes = size_bytes
        self._waiting: deque[pa.RecordBatch] = deque()
        self._held_bytes = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, batch: pa.RecordBatch) -> None:
        for piece in parts(batch, self._size_bytes):
            await self._put(piece)

    async def _put(self, batch: pa.RecordBatch) -> None:
        size = batch.nbytes
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(size))
            self._waiting.append(batch)
            self._held_bytes += size
            self._changed.notify_all()

    async def end(self) -> None:
        """Nothing more will come; the consumer still gets what waits."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def more(self) -> bool:
        """Waits until there is a batch to take; False after the last."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._ended)
            return bool(self._waiting)

    async def take(self) -> pa.RecordBatch:
        """The batch that `more` has told of."""
        async with self._changed:
            self._held_bytes -= self._waiting[0].nbytes
            self._changed.notify_all()
            return self._waiting.popleft()

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        while await self.more():
            yield await self.take()

    def _has_room(self, size: int) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < self._batches and self._held_bytes + size <= self._size_bytes
