"""Server-Sent Events, as the HTML standard writes them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from dataaggregator.errors import Unauthenticated
from dataaggregator.http.answer import StreamAnswer
from dataaggregator.http.call import Call

HEARTBEAT_SECONDS = 15.0


@dataclass(frozen=True)
class ServerSentEvent:
    """One event; ``id`` is what ``Last-Event-ID`` brings back."""

    data: str
    event: str | None = None
    id: str | None = None
    retry_ms: int | None = None

    def encode(self) -> bytes:
        """The event on the wire."""
        lines = []
        if self.id is not None:
            lines.append(f"id: {_one_line(self.id)}")
        if self.event is not None:
            lines.append(f"event: {_one_line(self.event)}")
        if self.retry_ms is not None:
            lines.append(f"retry: {self.retry_ms}")
        data = self.data.replace("\r\n", "\n").replace("\r", "\n")
        lines.extend(f"data: {line}" for line in data.split("\n"))
        return ("\n".join(lines) + "\n\n").encode()


def stream(call: Call, events: AsyncIterator[ServerSentEvent]) -> StreamAnswer:
    """An answer that writes events as they come, and a comment whenever there was none for HEARTBEAT_SECONDS.

    A stream outlives the call that began it: it ends before the next word once the caller's token is good no more.
    """

    async def write(response: web.StreamResponse) -> None:
        await response.write(b": ready\n\n")
        upcoming = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                done, _ = await asyncio.wait([upcoming], timeout=HEARTBEAT_SECONDS)
                await call.recheck()
                if not done:
                    await response.write(b": heartbeat\n\n")
                    continue
                event = upcoming.result()
                if event is None:
                    return
                await response.write(event.encode())
                upcoming = asyncio.ensure_future(anext(events, None))
        except Unauthenticated:
            return
        finally:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)

    return StreamAnswer(write=write, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ").replace("\x00", "")
