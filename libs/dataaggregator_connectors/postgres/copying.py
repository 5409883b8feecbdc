"""One COPY … FROM STDIN that is fed piece by piece while other work goes on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.sql import Table

PIECE_BYTES = 256 * 1024
PIECES_AHEAD = 2


class CopyIn:
    """Runs as a task of its own: the next batch is encoded while this one is on the wire. Memory is bounded."""

    def __init__(
        self, connection: Connection, table: Table, columns: Sequence[str], form: Literal["binary", "text"]
    ) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(PIECES_AHEAD)
        # These names have all passed our own quoting function before; asyncpg quotes them by the same rule.
        self._task: asyncio.Task[str] = asyncio.create_task(
            connection.copy_to_table(
                table.name,
                schema_name=table.schema,
                columns=list(columns),
                source=self._feed(),
                format=form,
            )
        )

    async def send(self, data: bytes) -> None:
        """Hand the bytes over; waits while too much is under way and raises what the COPY failed with."""
        if len(data) <= PIECE_BYTES:
            await self._put(data)
            return
        for start in range(0, len(data), PIECE_BYTES):
            await self._put(data[start : start + PIECE_BYTES])

    async def end(self) -> int:
        """Say that all is sent; answers the rows by the server's command tag."""
        await self._put(None)
        return int((await self._task).removeprefix("COPY "))

    async def abandon(self) -> None:
        """Wait for the end of a COPY whose connection was hung up."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()

    async def _put(self, piece: bytes | None) -> None:
        if self._task.done():
            # It cannot have ended well before it was told to end.
            await self._task
        if not self._pieces.full():
            self._pieces.put_nowait(piece)
            return
        put = asyncio.ensure_future(self._pieces.put(piece))
        try:
            await asyncio.wait({put, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not put.done():
                await self._task
        finally:
            put.cancel()

    async def _feed(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece
