"""The egress proxy: who may use it, what it lets through, and that one connection never speaks to two hosts."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from dataaggregator.connector.egress import Egress, EgressPolicy
from dataaggregator.connector.egress_proxy import EgressProxy
from tests.serving import served

pytestmark = pytest.mark.security

DEADLINE_SECONDS = 20.0


@asynccontextmanager
async def proxied(*, private: bool = True) -> AsyncIterator[EgressProxy]:
    proxy = EgressProxy(Egress(EgressPolicy(private=private)))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


async def said(proxy: EgressProxy, head: str, body: bytes = b"", *, password: str | None = None) -> bytes:
    """All that comes back until the connection is closed."""
    split = urlsplit(proxy.url)
    token = base64.b64encode(f"egress:{password or split.password}".encode()).decode()
    reader, writer = await asyncio.open_connection(split.hostname, split.port)
    writer.write(f"{head}\r\nProxy-Authorization: Basic {token}\r\n\r\n".encode() + body)
    async with asyncio.timeout(DEADLINE_SECONDS):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async def told(request: web.Request) -> web.Response:
        body = await request.read()
        return web.json_response([request.path_qs, body.decode(), sorted(request.headers)])

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", told)
    async with served(application) as address:
        yield address


async def test_a_request_arrives_without_what_was_meant_for_the_proxy(server: str) -> None:
    async with proxied() as proxy:
        answer = await said(proxy, f"PUT {server}/a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3", b"abc")
    assert b"200 OK" in answer.splitlines()[0]
    assert b'["/a?b=c", "abc", ["Connection", "Content-Length", "Host"]]' in answer


async def test_a_second_request_on_a_connection_reaches_nobody() -> None:
    heard = b""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        while b"/two" not in heard and (block := await reader.read(1000)):
            heard += block
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as listening, proxied() as proxy:
        where = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        await said(proxy, f"GET {where}/one HTTP/1.1", b"GET http://elsewhere/two HTTP/1.1\r\n\r\n")
    assert heard.startswith(b"GET /one HTTP/1.1\r\n")
    assert b"/two" not in heard


async def test_a_tunnel_carries_bytes_both_ways() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard " + await reader.readexactly(5))
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as listening, proxied() as proxy:
        port = listening.sockets[0].getsockname()[1]
        answer = await said(proxy, f"CONNECT 127.0.0.1:{port} HTTP/1.1", b"hello")
    assert answer.endswith(b"\r\n\r\nheard hello")


async def test_who_does_not_know_the_password_gets_nowhere(server: str) -> None:
    async with proxied() as proxy:
        answer = await said(proxy, f"GET {server}/ HTTP/1.1", password="wrong")
    assert answer.startswith(b"HTTP/1.1 407 ")


@pytest.mark.parametrize("way", ["GET {} HTTP/1.1", "CONNECT {} HTTP/1.1"])
async def test_what_may_not_be_reached_is_refused_and_said_why(way: str) -> None:
    where = "http://127.0.0.1:9/" if way.startswith("GET") else "127.0.0.1:9"
    async with proxied(private=False) as proxy:
        answer = await said(proxy, way.format(where))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert proxy.refused is not None
        assert proxy.refused.code == "egress-denied"


@pytest.mark.parametrize("nonsense", ["nonsense", "GET / HTTP/1.1", "CONNECT 127.0.0.1:port HTTP/1.1", "GET ftp://a/"])
async def test_nonsense_ends_the_connection(nonsense: str) -> None:
    async with proxied() as proxy:
        assert b"200" not in await said(proxy, nonsense)
