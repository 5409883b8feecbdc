"""The bounded queue between two workers of a run: at most so many batches and so many bytes in flight."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import pyarrow as pa

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
        rows = max(1, batch.num_rows * self._size_bytes // max(1, batch.nbytes))
        for at in range(0, max(1, batch.num_rows), rows):
            await self._put(batch.slice(at, rows))

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

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                batch = self._waiting.popleft()
                self._held_bytes -= batch.nbytes
                self._changed.notify_all()
            yield batch

    def _has_room(self, size: int) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < self._batches and self._held_bytes + size <= self._size_bytes
