"""Connection: one to a service, for one call at a time; what comes over it is read by aiohttp's parser."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http import HttpResponseParser, RawResponseMessage

# So much of an answer is held, twice, for who takes it slowly; then the service is not read any more.
READ_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"
_EMPTY = frozenset({204, 304})
_UNKNOWN = -1


class Lost(Exception):  # noqa: N818 - it is what happened to the call
    """The connection ended, or what came over it was no answer; ``heard`` if anything came at all."""

    def __init__(self, told: str, *, heard: bool) -> None:
        super().__init__(told)
        self.heard = heard


@dataclass(slots=True)
class Call:
    """What is sent: a head with its empty line, and a body behind it.

    A body that is a stream is sent as ``length`` bytes, or in chunks if that is None.
    """

    method: str
    head: bytes
    body: bytes | StreamReader = b""
    length: int | None = None


class Answer(NamedTuple):
    """The head of an answer, and its body as far as it came."""

    message: RawResponseMessage
    content: StreamReader


class Connection(BaseProtocol):
    """It may carry another call only if every byte that came is accounted for: see ``clean``.

    A service that says nothing for ``silence_seconds`` while a call waits is waited for no longer; a connection that
    nobody used for ``idle_seconds`` is closed. One timer watches over both, and no call has to touch it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        silence_seconds: float,
        idle_seconds: float,
        ended: Callable[["Connection"], None],
    ) -> None:
        super().__init__(loop)
        self._silence_seconds = silence_seconds
        self._idle_seconds = idle_seconds
        self._ended = ended
        self._waiting: asyncio.Future[Answer] | None = None
        self._answer: Answer | None = None
        self._upload: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._started = b""
        self._received = 0
        self._expected = _UNKNOWN
        self._bodiless = False
        self._spoilt = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(min(self._silence_seconds, self._idle_seconds), self._watch)

    @property
    def usable(self) -> bool:
        """Can a call be sent, as far as anybody knows?"""
        return not self._spoilt and self.transport is not None and not self.transport.is_closing()

    async def call(self, call: Call) -> Answer:
        """Send it; the answer once its head is there. Raises Lost."""
        waiting = self._begin(call)
        try:
            return await waiting
        except BaseException:
            if waiting.done() and not waiting.cancelled():
                waiting.exception()  # who was cancelled in that very moment does not ask for it
            self.abort()
            await self.end_upload()
            raise

    async def end_upload(self) -> None:
        """From now on nobody here reads a body that a call brought: what is left of it is the server's again."""
        upload, self._upload = self._upload, None
        if upload is not None:
            self.abort()
            upload.cancel()
            await asyncio.wait([upload])

    def _begin(self, call: Call) -> "asyncio.Future[Answer]":
        if self.transport is None or not self.usable:
            raise Lost("The connection is closed.", heard=False)
        self._bodiless = call.method == "HEAD"
        # One for each answer, so that nothing of one is left in it for the next.
        self._parser = HttpResponseParser(
            self,
            self._loop,
            READ_BYTES,
            payload_exception=ClientPayloadError,
            response_with_body=not self._bodiless,
            read_until_eof=True,
            auto_decompress=False,
        )
        self._answer, self._started, self._received = None, b"", 0
        self._heard_at = self._loop.time()
        self._waiting = self._loop.create_future()
        if isinstance(call.body, bytes):
            self.transport.write(call.head + call.body)
        else:
            self.transport.write(call.head)
            self._upload = self._loop.create_task(self._send(call.body, call.length), name="upload")
        return self._waiting

    @property
    def clean(self) -> bool:
        """May another call be sent over it? Only behind an answer whose length says where it ends, and nothing more.

        What came behind chunks, or behind a head that is not written as ours are, could not be told from them.
        """
        answer = self._answer
        return (
            answer is not None
            and self._received == self._expected
            and answer.content.is_eof()
            and self._upload is None
            and self.usable
        )

    def rest(self) -> None:
        """Nobody calls; whatever comes now ends it."""
        self._waiting = self._answer = self._parser = None
        self._heard_at = self._loop.time()

    def abort(self) -> None:
        """Cut it off, now."""
        self._spoilt = True
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """See asyncio; a byte that nobody asked for ends the connection."""
        if self._parser is None:
            if data:
                self.abort()
            return
        if data:
            self._received += len(data)
            self._heard_at = self._loop.time()
            if self._answer is None:
                self._started += data
        try:
            messages, upgraded, _ = self._parser.feed_data(data)
        except Exception as error:  # whatever the parser calls it
            self._fail(f"What it answered is no HTTP: {error!r}")
            return
        if upgraded:
            self._fail("It speaks another protocol now.")
            return
        for message, content in messages:
            if self._answer is not None:
                self._spoilt = True  # more answers than calls
            elif not 100 <= message.code < 200:
                self._answer = Answer(message, content)
                self._expected, self._started = self._whole_bytes(message), b""
                if self._waiting is not None and not self._waiting.done():
                    self._waiting.set_result(self._answer)

    def _whole_bytes(self, message: RawResponseMessage) -> int:
        """How many bytes an answer has from its first to its last, if its head says so beyond doubt."""
        if message.should_close or message.chunked:
            return _UNKNOWN
        at = self._started.find(_HEAD_END) + len(_HEAD_END)
        if self._started.count(b"\n", 0, at) != len(message.raw_headers) + 2:
            return _UNKNOWN  # lines that end or go on otherwise, or an interim answer before
        if self._bodiless or message.code in _EMPTY:
            return at
        length = message.headers.get("Content-Length", "")
        return at + int(length) if length.isascii() and length.isdigit() else _UNKNOWN

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio."""
        self._spoilt = True
        if self._timer is not None:
            self._timer.cancel()
        if exc is None and self._parser is not None and self._answer is not None and not self._answer.content.is_eof():
            try:
                self._parser.feed_eof()  # the end of the connection is the end of some bodies
            except Exception as error:
                self._answer.content.set_exception(ClientPayloadError(str(error)))
        super().connection_lost(exc)
        self._fail("It closed the connection." if exc is None else f"The connection ended: {exc}.")
        self._ended(self)

    def _fail(self, told: str) -> None:
        """Tell whoever waits for the head, or for more of the body."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Lost(told, heard=self._received > 0))
        elif self._answer is not None and not self._answer.content.is_eof():
            self._answer.content.set_exception(ClientPayloadError(told))
        if self._upload is not None:
            self._upload.cancel()
        self.abort()

    async def _send(self, body: StreamReader, length: int | None) -> None:
        """The body as it comes, no faster than the service takes it; one that breaks off ends the call."""
        left = length
        try:
            async for data in body.iter_any():
                if self.transport is None:
                    return
                if left is None:
                    self.transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
                else:
                    left -= len(data)
                    if left < 0:
                        break
                    self.transport.write(data)
                await self._drain_helper()
            if left:
                raise ClientPayloadError(f"It is not of the {length} bytes that were told.")
            if left is None and self.transport is not None:
                self.transport.write(b"0\r\n\r\n")
        except Exception as error:  # the caller's, or the connection's
            self._upload = None
            self._fail(f"The body could not be sent: {error}")
        else:
            self._heard_at, self._upload = self._loop.time(), None

    def _watch(self) -> None:
        now, idle = self._loop.time(), self._parser is None
        if self._upload is not None or self._reading_paused:
            self._heard_at = now  # it is not the service that is waited for
        left = self._heard_at + (self._idle_seconds if idle else self._silence_seconds) - now
        if left > 0:
            self._timer = self._loop.call_later(min(left, self._idle_seconds, self._silence_seconds), self._watch)
        elif idle:
            self.abort()
        else:
            self._fail(f"It said nothing for {self._silence_seconds:g} seconds.")
