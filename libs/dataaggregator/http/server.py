"""An application on a port: bound before anything else starts, answering in our words even to what is not HTTP."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dataaggregator.errors import Malformed, Permanent
from dataaggregator.http import problems
from dataaggregator.http.tls import HANDSHAKE_SECONDS
from dataaggregator.ids import new_id

_BACKLOG = 1024


class _Protocol(RequestHandler):
    """aiohttp's, but what cannot be read as HTTP gets a problem as well."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        del request, exc, message
        error = problems.internal_error()
        if status < 500:
            error = Malformed("request-malformed", "This could not be read as HTTP/1.1.")
        response = problems.answer(error, new_id().hex)
        response.force_close()
        return response


class Listener:
    """A service's open port: in the clear, or over TLS; then with another one on this machine, `inside`, for what runs
    in the same process, or on it, and knows of no certificate."""

    def __init__(
        self, app: web.Application, sock: socket.socket, stop_seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=stop_seconds)
        self._sockets = {sock: tls}
        self._servers: list[asyncio.Server] = []
        self.url = self.inside_url = _url(sock, tls)
        if tls is not None:
            inside = bind("127.0.0.1", 0)
            self._sockets[inside] = None
            self.inside_url = _url(inside, None)

    def release(self) -> None:
        """Give back the ports of one that was never opened."""
        for sock in self._sockets:
            sock.close()

    async def open(self) -> None:
        """Begin to take calls."""
        await self._runner.setup()
        manager = self._runner.server
        if manager is None:
            raise RuntimeError("the application did not start")
        options: Mapping[str, Any] = {"access_log": None, "keepalive_timeout": 75.0}
        loop = asyncio.get_running_loop()
        for sock, tls in self._sockets.items():
            server = await loop.create_server(
                lambda: _Protocol(manager, loop=loop, **options),
                sock=sock,
                backlog=_BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_SECONDS,
            )
            self._servers.append(server)

    async def close(self) -> None:
        """Take no more calls, let those that are in work finish, then cut off."""
        for server in self._servers:
            server.close()
        self.release()
        await self._runner.cleanup()


def _url(sock: socket.socket, tls: ssl.SSLContext | None) -> str:
    host, port = sock.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """The port, ours from now on (0: a free one); raises Permanent with one sentence if it cannot be had."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        why = "another program has it" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise Permanent("port-in-use", f"Cannot listen on {host}:{port}: {why}.") from None
    return sock
