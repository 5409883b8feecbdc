"""Written: an answer that is ready as bytes."""

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter


class Written(web.StreamResponse):
    """Head and body leave at once, as they are; the connection stays open behind them."""

    def __init__(self, status: int, written: bytes) -> None:
        super().__init__(status=status)
        self._written = written

    @property
    def keep_alive(self) -> bool:
        """Its head says nothing else."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """See aiohttp, who calls this once and then `write_eof`."""
        await request.writer.write(self._written)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """All is written."""
