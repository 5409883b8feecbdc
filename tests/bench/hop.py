"""The ends of the gateway's benchmark: a service that answers at once, a bare proxy before it, and callers.

`python -m tests.bench.hop service PORT` and `python -m tests.bench.hop proxy PORT TARGET` each serve until killed.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import aiohttp
import uvloop
from aiohttp import web

ITEM = b'{"id":"0197a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b","name":"erp-to-warehouse","status":"active"},'
BODY = b'{"items":[' + (ITEM * 10)[:-1] + b'],"next_cursor":null}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-ID: 0197a2b45c6d\r\nContent-Length: %d\r\n\r\n%s"
    % (len(BODY), BODY)
)
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
LISTENS = b"listens\n"


class Service(asyncio.Protocol):
    """Answers every head alike, so that what is measured is what lies before it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        while HEAD_END in self._held:
            self._held = self._held.partition(HEAD_END)[2]
            self._transport.write(ANSWER)


async def serve_at_once(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port)
    tell()
    await server.serve_forever()


async def serve_proxy(port: int, target: str) -> None:
    """The least that aiohttp does to hand a call on and its answer back: nobody is asked who they are."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:

        async def hand_on(request: web.Request) -> web.Response:
            async with session.request(request.method, f"{target}{request.path_qs}", headers=request.headers) as answer:
                return web.Response(body=await answer.read(), status=answer.status, headers=answer.headers)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", hand_on)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        tell()
        await asyncio.Event().wait()


def tell() -> None:
    """Who started this process waits for it."""
    sys.stdout.buffer.write(LISTENS)
    sys.stdout.flush()


@dataclass(frozen=True)
class Load:
    """What callers did together."""

    calls: int
    seconds: float


class Caller(asyncio.Protocol):
    """Calls again as soon as it is answered, on one connection."""

    def __init__(self, call: bytes, until: float) -> None:
        self._call = call
        self._until = until
        self._held = bytearray()
        self.calls = 0
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._call)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(HEAD_END)
        if not found or len(body) < length_of(head):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._end(AssertionError(bytes(self._held[:2000]).decode()))
            return
        self._held.clear()
        self.calls += 1
        if time.monotonic() < self._until:
            self._transport.write(self._call)
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionError("the connection ended"))

    def _end(self, error: Exception | None) -> None:
        self._transport.close()
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


def length_of(head: bytes | bytearray) -> int:
    """The length that a head tells of its body."""
    lower = bytes(head).lower()
    return int(lower.partition(LENGTH)[2].partition(b"\r\n")[0])


async def call_for(port: int, path: str, token: str | None, callers: int, seconds: float) -> Load:
    """So many callers, each on its connection, for a time."""
    authorization = "" if token is None else f"Authorization: Bearer {token}\r\n"
    call = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n{authorization}\r\n".encode()
    loop, began = asyncio.get_running_loop(), time.monotonic()
    made = [
        (await loop.create_connection(lambda: Caller(call, began + seconds), "127.0.0.1", port))[1]
        for _ in range(callers)
    ]
    await asyncio.gather(*(one.ended for one in made))
    return Load(sum(one.calls for one in made), time.monotonic() - began)


@asynccontextmanager
async def process(*words: str) -> AsyncIterator[int]:
    """One of the two servers as a process of its own, once it listens; its pid."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.hop", *words, stdout=asyncio.subprocess.PIPE
    )
    assert started.stdout is not None
    try:
        assert await started.stdout.readline() == LISTENS
        yield started.pid
    finally:
        started.kill()
        await started.wait()


if __name__ == "__main__":
    role, given = sys.argv[1], int(sys.argv[2])
    uvloop.run(serve_at_once(given) if role == "service" else serve_proxy(given, sys.argv[3]))
