"""Pool: the connections to each service; so many at a time at most, the last one used is used next."""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from multidict import CIMultiDictProxy

from .connection import Answer, Call, Connection, Lost

# RFC 9110, 9.2.2: twice is as good as once, so what a kept connection lost may be sent over a new one.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class Unreached(Exception):  # noqa: N818 - it is what happened to the call
    """Nothing was sent: there is no connection, and none could be had in time."""


@dataclass(slots=True)
class _Place:
    """One service: where it is, what is open to it, and who waits."""

    host: str
    port: int
    tls: bool
    busy: int = 0
    idle: dict[Connection, None] = field(default_factory=dict)
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Exchange:
    """An answer whose head is there. Whoever has it must ``end`` it, whatever became of its body."""

    __slots__ = ("_connection", "_place", "_pool", "content", "message")

    def __init__(self, answer: Answer, connection: Connection, place: _Place, pool: "Pool") -> None:
        self.message, self.content = answer
        self._connection: Connection | None = connection
        self._place = place
        self._pool = pool

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self.message.headers

    @property
    def length(self) -> int | None:
        """Of the body, as the head tells it."""
        told = self.message.headers.get("Content-Length", "")
        return int(told) if told.isascii() and told.isdigit() else None

    async def whole(self) -> bytes:
        """The body; raises aiohttp.ClientError if it breaks off."""
        if self.content.is_eof() and self.content.exception() is None:
            return self.content.read_nowait()
        return await self.content.read()

    async def end(self) -> None:
        """Keep the connection if it is clean, else cut it, and with it what is still being sent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(self._place, connection)
            await connection.end_upload()


class Pool:
    """Connections by service; of more than ``at_once`` calls (0: no bound) the later ones wait for their turn."""

    def __init__(self, at_once: int, connect_seconds: float, silence_seconds: float, idle_seconds: float) -> None:
        self._at_once = at_once
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds
        self._idle_seconds = idle_seconds
        self._places: dict[str, _Place] = {}
        self._open: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLContext | None = None

    def close(self) -> None:
        """Cut off every connection, also one that is at work."""
        for connection in tuple(self._open):
            connection.abort()

    async def call(self, url: str, call: Call) -> Exchange:
        """Send a call to the service at ``url``; the answer once its head is there. Raises Unreached or Lost."""
        place = self._places.get(url) or self._placed(url)
        connection = self._kept(place)
        if connection is None:
            return await self._exchange(place, await self._had(place), call)
        try:
            return await self._exchange(place, connection, call)
        except Lost as lost:
            if lost.heard or call.method not in _IDEMPOTENT or not isinstance(call.body, bytes):
                raise
        return await self._exchange(place, await self._had(place, new=True), call)

    def give_back(self, place: _Place, connection: Connection) -> None:
        """The call is over."""
        if connection.clean:
            connection.rest()
            place.idle[connection] = None
        else:
            connection.abort()
        self._free(place)

    async def _exchange(self, place: _Place, connection: Connection, call: Call) -> Exchange:
        try:
            return Exchange(await connection.call(call), connection, place, self)
        except BaseException:
            self._free(place)
            raise

    def _kept(self, place: _Place) -> Connection | None:
        """One that nobody uses, if a call may begin now."""
        while place.idle and (not self._at_once or place.busy < self._at_once):
            connection, _ = place.idle.popitem()
            if connection.usable:
                place.busy += 1
                return connection
        return None

    async def _had(self, place: _Place, *, new: bool = False) -> Connection:
        """One when it is this call's turn, kept or new."""
        try:
            async with asyncio.timeout(self._connect_seconds):
                await self._turn(place)
                if not new and (connection := self._kept(place)) is not None:
                    return connection
                place.busy += 1
                try:
                    return await self._connected(place)
                except BaseException:
                    self._free(place)
                    raise
        except OSError as error:  # a TimeoutError is one
            told = str(error) or f"There was no connection within {self._connect_seconds:g} seconds."
            raise Unreached(told) from error

    async def _connected(self, place: _Place) -> Connection:
        tls = self._context() if place.tls else None
        _, connection = await self._loop.create_connection(self._made, place.host, place.port, ssl=tls)
        if connection.usable:
            self._open.add(connection)
        return connection

    async def _turn(self, place: _Place) -> None:
        """Wait while too many are at work, in the order of coming."""
        put = place.waiting.append
        while self._at_once and place.busy >= self._at_once:
            turn = self._loop.create_future()
            put(turn)
            put = place.waiting.appendleft  # who was called and came too late is the next one
            try:
                await turn
            except BaseException:
                if turn in place.waiting:
                    place.waiting.remove(turn)
                elif not turn.cancelled():
                    self._wake(place)  # it was called, and the next may come in its place
                raise

    def _free(self, place: _Place) -> None:
        place.busy -= 1
        self._wake(place)

    def _wake(self, place: _Place) -> None:
        while place.waiting:
            turn = place.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _made(self) -> Connection:
        return Connection(self._loop, self._silence_seconds, self._idle_seconds, self._forget)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        for place in self._places.values():
            place.idle.pop(connection, None)

    def _placed(self, url: str) -> _Place:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        place = self._places[url] = _Place(parts.hostname or "", parts.port or (443 if tls else 80), tls)
        return place

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls
