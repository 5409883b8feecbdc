"""The proxy does what it says, so that a fault test can rely on it."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Proxy, Side

SOON_SECONDS = 0.2


class Echo:
    """A server that sends back what comes, and notes what came and how each connection ended."""

    def __init__(self) -> None:
        self.received = b""
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = "closed"
        try:
            while data := await reader.read(1000):
                self.received += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            end = "reset"
        self.ended.put_nowait(end)
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


class Wire:
    """A client's connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self, count: int) -> bytes:
        async with asyncio.timeout(10):
            return await self._reader.readexactly(count)

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        return await self.read(len(data))

    async def hears_nothing(self) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self._reader.read(1), SOON_SECONDS)

    async def hears_the_end(self) -> None:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await self.read(1)

    def close(self) -> None:
        self._writer.close()


class Clients:
    """Whoever connects through the proxy, and says hello."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._wires: list[Wire] = []

    async def connect(self) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self._proxy.port))
        self._wires.append(wire)
        assert await wire.ask(b"hello") == b"hello"
        return wire

    def leave(self) -> None:
        for wire in self._wires:
            wire.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy(echo.port) as proxy:
        yield proxy


@pytest.fixture
async def clients(proxy: Proxy) -> AsyncIterator[Clients]:
    clients = Clients(proxy)
    yield clients
    clients.leave()


async def test_bytes_go_through_both_ways_and_the_end_with_them(proxy: Proxy, clients: Clients, echo: Echo) -> None:
    wire = await clients.connect()
    text = b"x" * 300_000
    assert await wire.ask(text) == text
    assert proxy.passed == {Side.SERVER: 300_005, Side.CLIENT: 300_005}
    wire.close()
    assert await asyncio.wait_for(echo.ended.get(), 10) == "closed"


async def test_a_delay_holds_up_question_and_answer(proxy: Proxy, clients: Clients) -> None:
    wire = await clients.connect()
    proxy.delay_seconds = 0.1
    began = time.monotonic()
    await wire.ask(b"late")
    assert time.monotonic() - began >= 0.2
    proxy.heal()
    began = time.monotonic()
    await wire.ask(b"soon")
    assert time.monotonic() - began < 0.1


async def test_a_cut_is_a_reset_on_both_sides_and_the_next_connection_is_well(
    proxy: Proxy, clients: Clients, echo: Echo
) -> None:
    wire = await clients.connect()
    proxy.cut()
    await wire.hears_the_end()
    assert await asyncio.wait_for(echo.ended.get(), 10) == "reset"
    await clients.connect()


async def test_refused_connections_are_refused_until_it_opens_again_at_the_same_port(
    proxy: Proxy, clients: Clients
) -> None:
    wire, port = await clients.connect(), proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await clients.connect()
    assert await wire.ask(b"open") == b"open"
    await proxy.open()
    assert proxy.port == port
    await clients.connect()


async def test_a_black_hole_tells_nobody_and_loses_nothing(proxy: Proxy, clients: Clients, echo: Echo) -> None:
    wire = await clients.connect()
    proxy.black_hole()
    wire.send(b"into the dark")
    await wire.hears_nothing()
    assert echo.received == b"hello"
    proxy.heal()
    assert await wire.read(13) == b"into the dark"


async def test_half_open_at_the_server_the_client_waits_in_vain(proxy: Proxy, clients: Clients, echo: Echo) -> None:
    wire = await clients.connect()
    proxy.half_open(Side.SERVER)
    assert await asyncio.wait_for(echo.ended.get(), 10) == "reset"
    wire.send(b"anybody?")
    await wire.hears_nothing()
    assert echo.received == b"hello"
    proxy.heal()
    await wire.hears_the_end()


async def test_half_open_at_the_client_the_server_waits_in_vain(proxy: Proxy, clients: Clients, echo: Echo) -> None:
    wire = await clients.connect()
    proxy.half_open(Side.CLIENT)
    await wire.hears_the_end()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(echo.ended.get(), SOON_SECONDS)
    proxy.heal()
    assert await asyncio.wait_for(echo.ended.get(), 10) == "reset"


async def test_it_cuts_after_so_many_bytes_to_the_server(proxy: Proxy, clients: Clients, echo: Echo) -> None:
    wire = await clients.connect()
    proxy.cut_after(4, Side.SERVER)
    wire.send(b"0123456789")
    await wire.hears_the_end()
    await asyncio.wait_for(echo.ended.get(), 10)
    assert echo.received == b"hello0123"
    await clients.connect()


async def test_it_cuts_after_so_many_bytes_to_the_client(proxy: Proxy, clients: Clients, echo: Echo) -> None:
    wire = await clients.connect()
    proxy.cut_after(4, Side.CLIENT)
    wire.send(b"0123456789")
    assert await wire.read(4) == b"0123"
    await wire.hears_the_end()
    assert echo.received == b"hello0123456789"


async def test_a_server_that_is_away_is_a_reset_for_the_client() -> None:
    async with Proxy(1) as proxy:
        clients = Clients(proxy)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await clients.connect()
        clients.leave()
    assert proxy.connections == 0
