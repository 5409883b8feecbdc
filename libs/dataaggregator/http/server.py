"""An application on a port: bound before anything else starts, answering in our words even to what is not HTTP."""

import asyncio
import errno
import socket
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dataaggregator.errors import Malformed, Permanent
from dataaggregator.http import problems
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
    """A service's open port."""

    def __init__(self, app: web.Application, sock: socket.socket, stop_seconds: float) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=stop_seconds)
        self._sock = sock
        self._server: asyncio.Server | None = None
        host, port = sock.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def open(self) -> None:
        """Begin to take calls."""
        await self._runner.setup()
        manager = self._runner.server
        if manager is None:
            raise RuntimeError("the application did not start")
        options: Mapping[str, Any] = {"access_log": None, "keepalive_timeout": 75.0}
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Protocol(manager, loop=loop, **options), sock=self._sock, backlog=_BACKLOG
        )

    async def close(self) -> None:
        """Take no more calls, let those that are in work finish, then cut off."""
        if self._server is not None:
            self._server.close()
        self._sock.close()
        await self._runner.cleanup()


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
