"""A TCP proxy on loopback that does to connections what networks do: delay, cut, swallow, forget one side."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit, urlunsplit

READ_BYTES = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset, as from a machine that knows of no connection


class Side(Enum):
    """One end of a connection; bytes are counted by the end they go to."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(eq=False)
class Link:
    """One connection of a client and the one made for it to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    pumps: list[asyncio.Task[None]] = field(default_factory=list)
    gone: Side | None = None


class Proxy:
    """``async with Proxy(port) as proxy``: clients connect to ``proxy.port``. Faults hold for connections that are
    open and for new ones, until `heal`."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None
        self._passing = {side: asyncio.Event() for side in Side}
        for passing in self._passing.values():
            passing.set()
        self._left: dict[Side, int] = {}
        self.port = 0
        self.delay_seconds = 0.0
        """How long each piece of data is held up, either way."""
        self.passed = dict.fromkeys(Side, 0)
        """Bytes that went through so far, by the side they went to."""
        self.taken = 0
        """Connections taken so far."""

    async def __aenter__(self) -> "Proxy":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        self.cut()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._links)

    def through(self, url: str) -> str:
        """The URL of the same place by way of this proxy."""
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}"))

    async def open(self) -> None:
        """Take new connections, at the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """Reset every open connection, on both sides; what was on its way is lost."""
        for link in list(self._links):
            self._cut(link)

    def black_hole(self, *to: Side) -> None:
        """Let nothing through to these sides, or either way, and tell nobody; what was sent arrives after `heal`."""
        for side in to or Side:
            self._passing[side].clear()

    def half_open(self, gone: Side) -> None:
        """Every open connection is reset for this side only; the other is not told, and what it sends is swallowed."""
        for link in list(self._links):
            link.gone = gone
            _reset(link.server if gone is Side.SERVER else link.client)

    def cut_after(self, count: int, to: Side) -> None:
        """Cut every connection once so many more bytes have gone to this side, in all; new ones are unharmed."""
        self._left[to] = count

    def heal(self) -> None:
        """No more faults. Connections that are gone for one side are reset for the other."""
        self.delay_seconds = 0.0
        self._left.clear()
        for passing in self._passing.values():
            passing.set()
        for link in [link for link in self._links if link.gone]:
            self._cut(link)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        link = Link(writer, server_writer)
        self._links.add(link)
        link.pumps = [
            asyncio.create_task(self._pump(link, reader, server_writer, Side.SERVER)),
            asyncio.create_task(self._pump(link, server_reader, writer, Side.CLIENT)),
        ]
        await asyncio.wait(link.pumps)
        self._cut(link)

    async def _pump(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: Side) -> None:
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await self._passing[to].wait()
                if link.gone:
                    continue
                data, last = self._allowed(to, data)
                self.passed[to] += len(data)
                writer.write(data)
                await writer.drain()
                if last:
                    # The bytes before the cut arrive: a reset would take them back.
                    writer.close()
                    self.cut()
                    return
            await self._passing[to].wait()
        if link.gone:
            return
        with suppress(OSError, RuntimeError):
            writer.write_eof()

    def _allowed(self, to: Side, data: bytes) -> tuple[bytes, bool]:
        """What of the data may still pass, and whether that is the last."""
        left = self._left.get(to)
        if left is None or left > len(data):
            if left is not None:
                self._left[to] = left - len(data)
            return data, False
        del self._left[to]
        return data[:left], True

    def _cut(self, link: Link) -> None:
        self._links.discard(link)
        for writer in (link.client, link.server):
            _reset(writer)
        for pump in link.pumps:
            if pump is not asyncio.current_task():
                pump.cancel()


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
