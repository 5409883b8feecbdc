"""One connection to Redis for a whole process: calls share it, answers come back in order, a lost one is made anew."""

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import hiredis

from dataaggregator.telemetry import logs

TIMEOUT_SECONDS = 0.5
PING_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
# A loop that stood still runs its timers before it reads; an answer that has arrived meanwhile is read first.
_GRACE_SECONDS = 0.02

Word = str | bytes | int | float
Hear = Callable[[bytes], None]

log = logs.get(__name__)


class LinkDownError(Exception):
    """Redis does not answer now."""


class RedisRefusedError(Exception):
    """Redis answered that it will not do this."""


@dataclass(frozen=True)
class Address:
    """Where Redis is and how to be let in: ``redis[s]://[user][:password]@host[:port][/database]``."""

    host: str
    port: int
    database: int
    username: str
    password: str = field(repr=False)
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "Address":
        parts = urlsplit(url)
        database = parts.path.strip("/")
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 6379,
            database=int(database) if database.isdigit() else 0,
            username=unquote(parts.username or "") or "default",
            password=unquote(parts.password or ""),
            tls=parts.scheme == "rediss",
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Script:
    """Lua that Redis carries out at once and whole."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """Open it and call; while Redis does not answer, calls are refused at once and it is sought in the background.

    An answer that takes longer than ``TIMEOUT_SECONDS`` ends the connection, and a silent one is asked every
    ``PING_SECONDS``: a server that takes connections and never answers costs the calls in flight half a second, and the
    later ones nothing. ``hear`` gets what is published on ``channel``; ``found`` is called at each new connection, when
    the channel is heard again and what was said meanwhile was missed. Needs Redis 6 or later.
    """

    def __init__(
        self,
        url: str,
        *,
        channel: str | None = None,
        hear: Hear = lambda _: None,
        found: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = Address.parse(url)
        self._channel = channel
        self._hear = hear
        self._found = found
        self._wire: _Wire | None = None
        self._why = "it was not opened"
        self._tried = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Does Redis answer, as far as is known?"""
        return self._wire is not None

    async def open(self) -> None:
        """Return when Redis was found, or not found at the first try: it is sought until ``close``."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="redis")
        await self._tried.wait()

    async def close(self) -> None:
        """End the connection."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        self._tried.clear()
        self._drop("it was closed")

    async def call(self, *words: Word) -> Any:
        """The answer to one command; raises LinkDownError, or RedisRefusedError."""
        if self._wire is None:
            raise LinkDownError(self._why)
        return await self._wire.send(*words)

    async def run(self, script: Script, keys: Sequence[Word], *arguments: Word) -> Any:
        """The answer of a script, which is sent whole only to a server that does not know it."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except RedisRefusedError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                wire = await self._connect()
                pause = _FIRST_PAUSE_SECONDS
                self._take(wire)
                await wire.watch()
                why = wire.why
            except (OSError, TimeoutError, LinkDownError, RedisRefusedError) as error:
                why = str(error) or "it does not answer"
            except Exception as bug:
                log.bug("redis_link_failed", bug)
                why = "an error of ours"
            if self._drop(why):
                log.warning("redis_lost", address=str(self.address), because=why)
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _connect(self) -> "_Wire":
        """A connection over which Redis has answered."""
        address = self.address
        wire = _Wire(self._hear)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                tls = ssl.create_default_context() if address.tls else None
                await asyncio.get_running_loop().create_connection(lambda: wire, address.host, address.port, ssl=tls)
            login = ("AUTH", address.username, address.password) if address.password else ()
            answers = [wire.send("HELLO", "3", *login), wire.send("SELECT", address.database)]
            if self._channel is not None:
                wire.subscribe(self._channel)
            await asyncio.gather(*answers, wire.send("PING"))
        except BaseException:
            wire.end("it was not let in")
            raise
        return wire

    def _take(self, wire: "_Wire") -> None:
        self._wire = wire
        self._tried.set()
        log.info("redis_found", address=str(self.address))
        self._found()

    def _drop(self, why: str) -> bool:
        """There is no connection, and why; answers whether that is news."""
        wire, self._wire = self._wire, None
        before, self._why = self._why, why
        if wire is not None:
            wire.end(why)
        return wire is not None or why != before


class _Wire(asyncio.Protocol):
    """A connection while it lasts: commands out, answers in, in the same order."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=RedisRefusedError, notEnoughData=_NOTHING)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self.why = "the connection ended"

    def send(self, *words: Word) -> asyncio.Future[Any]:
        """Write a command; the future has the answer."""
        if self._transport is None or self._transport.is_closing():
            raise LinkDownError(self.why)
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(answer)
        self._transport.write(_packed(words))
        self._loop.call_later(TIMEOUT_SECONDS, self._loop.call_later, _GRACE_SECONDS, self._overdue, answer)
        return answer

    def subscribe(self, channel: str) -> None:
        """Hear this channel from here on: the answer is a push and not among the others."""
        if self._transport is not None:
            self._transport.write(_packed(("SUBSCRIBE", channel)))

    async def watch(self) -> None:
        """Return when the connection has ended; ask now and then whether it has."""
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._lost.wait()
            except TimeoutError:
                await self.send("PING")

    def end(self, why: str) -> None:
        """End it at once; whoever waits is told why."""
        if not self._lost.is_set():
            self.why = why
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self.why = str(error)
        self._lost.set()
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(LinkDownError(self.why))
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                self._received(reply)
        except hiredis.ProtocolError:
            self.end("what answers is not Redis")

    def _received(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if reply[0] == b"message":
                self._heard(reply[2])
        elif self._waiting:
            answer = self._waiting.popleft()
            if answer.done():
                return
            if isinstance(reply, RedisRefusedError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

    def _heard(self, body: bytes) -> None:
        try:
            self._hear(body)
        except Exception as bug:
            log.bug("redis_message_failed", bug)

    def _overdue(self, answer: asyncio.Future[Any]) -> None:
        if not answer.done():
            self.end(f"no answer within {TIMEOUT_SECONDS:g} seconds")


_NOTHING = object()


def _packed(words: Sequence[Word]) -> bytes:
    # The stub knows a tuple of one word only.
    return cast("bytes", hiredis.pack_command(cast("tuple[Word]", tuple(words))))
