"""The way out for libraries that connect by themselves: a proxy on loopback that judges every address."""

import asyncio
import base64
import secrets
from collections.abc import Awaitable
from urllib.parse import urlsplit

from dataaggregator.connector.egress import Egress
from dataaggregator.errors import PlatformError, Transient

HEAD_SECONDS = 30.0
CONNECT_SECONDS = 10.0
BLOCK_BYTES = 256 * 1024
NOT_PASSED_ON = frozenset({b"proxy-authorization", b"proxy-connection", b"connection", b"keep-alive"})
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class EgressProxy:
    """Each connection goes to an address the guard has judged; `url` holds the password that opens it.

    TLS is tunnelled and stays between the two ends; of plain HTTP, one request is passed on by each connection.
    """

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._token = secrets.token_urlsafe(32)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.refused: PlatformError | None = None
        """Why the last connection that was not made was not: libraries keep the reason to themselves."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("start comes before url")
        return f"http://egress:{self._token}@127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._pass_on((reader, writer))
        except PlatformError as error:
            self.refused = error
            _answer(writer, "502 Bad Gateway" if isinstance(error, Transient) else "403 Forbidden", error.detail)
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError, ValueError):
            pass  # the other end went, or never spoke HTTP: closing is the answer
        finally:
            writer.close()

    async def _pass_on(self, client: Streams) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            head = await client[0].readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        headers = [line for line in lines if b":" in line]
        method, target, _ = first.decode("ascii").split(" ")
        if not self._opens(headers):
            _answer(client[1], "407 Proxy Authentication Required", "This proxy serves its own process only.")
        elif method == "CONNECT":
            split = urlsplit(f"//{target}")
            await self._tunnel(client, split.hostname or "", split.port or 443)
        else:
            await self._request(client, method, target, headers)

    def _opens(self, headers: list[bytes]) -> bool:
        wanted = b"Basic " + base64.b64encode(f"egress:{self._token}".encode())
        given = _header(headers, b"proxy-authorization")
        return given is not None and secrets.compare_digest(given, wanted)

    async def _tunnel(self, client: Streams, host: str, port: int) -> None:
        upstream = await self._connect(host, port)
        try:
            client[1].write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            await _either(_pump(client[0], upstream[1]), _pump(upstream[0], client[1]))
        finally:
            upstream[1].close()

    async def _request(self, client: Streams, method: str, target: str, headers: list[bytes]) -> None:
        split = urlsplit(target)
        if split.scheme != "http" or _header(headers, b"transfer-encoding") is not None:
            _answer(client[1], "501 Not Implemented", "Plain requests have an http address and a length.")
            return
        upstream = await self._connect(split.hostname or "", split.port or 80)
        try:
            path = split._replace(scheme="", netloc="").geturl() or "/"
            kept = [line for line in headers if line.split(b":", 1)[0].strip().lower() not in NOT_PASSED_ON]
            upstream[1].write(
                b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *kept, b"Connection: close", b"", b""])
            )
            await _pump(client[0], upstream[1], int(_header(headers, b"content-length") or 0))
            # A second request could be meant for another host: whoever sends one finds the connection closed.
            await _either(client[0].read(1), _pump(upstream[0], client[1]))
        finally:
            upstream[1].close()

    async def _connect(self, host: str, port: int) -> Streams:
        told = ""
        for address in await self._egress.resolve_all(host, port):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(address.ip, address.port)
            except (OSError, TimeoutError) as error:
                told = str(error) or f"no answer within {CONNECT_SECONDS:g} s"
        raise Transient("connector-unreachable", f"{host}:{port}: {told}")


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, most: int | None = None) -> None:
    """All of it, or `most` bytes."""
    left = most
    while left != 0 and (block := await source.read(BLOCK_BYTES if left is None else min(left, BLOCK_BYTES))):
        sink.write(block)
        await sink.drain()
        left = None if left is None else left - len(block)


async def _either(*ways: Awaitable[object]) -> None:
    """Until one of them ends; the other is ended with it."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _header(headers: list[bytes], name: bytes) -> bytes | None:
    for line in headers:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


def _answer(writer: asyncio.StreamWriter, status: str, detail: str) -> None:
    body = detail.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
