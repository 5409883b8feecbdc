"""A service that answers byte for byte as it is told, and calls to it over a pool."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from services.gateway.upstream import Call, Pool

SECONDS = 10


@dataclass(frozen=True)
class Cut:
    """An answer at whose end the connection is closed."""

    answer: bytes = b""


class Silent:
    """No answer."""


Script = bytes | Cut | Silent


@dataclass
class Service:
    """Answers call by call what it was told to, byte for byte."""

    answers: list[Script]
    url: str = ""
    calls: list[tuple[int, bytes]] = field(default_factory=list)
    """The number of the connection, and what came over it."""
    connections: int = 0
    gone: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        self.writers.append(writer)
        try:
            while True:
                self.calls.append((number, await _call(reader)))
                answer = self.answers.pop(0)
                if isinstance(answer, Silent):
                    continue
                writer.write(answer.answer if isinstance(answer, Cut) else answer)
                await writer.drain()
                if isinstance(answer, Cut):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone += 1
            writer.close()

    @property
    def over(self) -> list[int]:
        """The connection of each call."""
        return [number for number, _ in self.calls]


async def _call(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"chunked" in head:
        return head + await reader.readuntil(b"0\r\n\r\n")
    _, told, length = head.partition(b"Content-Length: ")
    return head + (await reader.readexactly(int(length.partition(b"\r\n")[0])) if told else b"")


@asynccontextmanager
async def standing(*answers: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    service = Service(list(answers))
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, ssl=tls)
    service.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield service
    finally:
        for writer in service.writers:
            writer.close()
        server.close()


@asynccontextmanager
async def pooled(at_once: int = 0, silence: float = SECONDS, idle: float = SECONDS) -> AsyncIterator[Pool]:
    pool = Pool(at_once, connect_seconds=0.5, silence_seconds=silence, idle_seconds=idle)
    try:
        async with asyncio.timeout(SECONDS):
            yield pool
    finally:
        pool.close()


def asked(method: str = "GET", body: bytes | StreamReader = b"", length: int | None = None) -> Call:
    told = b""
    if isinstance(body, StreamReader):
        told = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
    elif body:
        told = b"Content-Length: %d\r\n" % len(body)
    return Call(method, b"%s / HTTP/1.1\r\nHost: x\r\n%s\r\n" % (method.encode(), told), body, length)


def said(text: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer as our services write it."""
    more = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(text), more, text)


async def ask(pool: Pool, url: str, call: Call | None = None) -> tuple[int, bytes]:
    exchange = await pool.call(url, call or asked())
    try:
        return exchange.message.code, await exchange.whole()
    finally:
        await exchange.end()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - it asks
        await asyncio.sleep(0.005)


def upload(*parts: bytes, ends: bool = True) -> StreamReader:
    """A body as the server reads it from a caller."""
    protocol = BaseProtocol(asyncio.get_running_loop())
    protocol.connection_made(asyncio.Transport())
    body = StreamReader(protocol, 2**16, loop=asyncio.get_running_loop())
    for part in parts:
        body.feed_data(part)
    if ends:
        body.feed_eof()
    return body
