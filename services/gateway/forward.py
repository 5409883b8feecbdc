"""Forward: a call handed to the service that answers it, body and answer streamed, failures told plainly."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import aiohttp
from aiohttp import HttpVersion11, StreamReader, web

from dataaggregator.directory import Directory
from dataaggregator.errors import PlatformError, Transient
from dataaggregator.http.app import STREAMS, stamp_of
from dataaggregator.telemetry import logs, metrics

from .bodies import read_body
from .circuit import FAILURES, Circuit, State
from .heads import back, back_at_once, decoded, ended, onward
from .upstream import Call, Exchange, Lost, Pool, Unreached
from .written import Written

# Also for a free connection of the pool: who hangs takes all of them, and nobody waits behind that without end.
CONNECT_SECONDS = 5.0
# Longer than anything a service does while its caller waits; streams send a heartbeat more often.
SILENCE_SECONDS = 120.0
RETRY_PAUSE_SECONDS = 0.1
POOLED = 200
# Shorter than any service keeps an idle connection, so that none is used while it is being closed.
IDLE_SECONDS = 10.0
SMALL_BYTES = 256 * 1024
EVENTS = "text/event-stream"

log = logs.get("gateway")

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_BODILESS = frozenset({204, 205, 304})


@dataclass(frozen=True)
class Fetched:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unanswered(Transient):
    """The call was sent and no answer came: whether it was carried out is not known."""


class Upstreams:
    """The connections to the services: a pool for calls, and for streams of events, which last, as many as there are.

    A service that leaves calls without an answer is given up for a moment: its callers are told so at once.
    """

    name = "upstreams"

    def __init__(self, directory: Directory, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._calls: Pool | None = None
        self._streams: Pool | None = None
        self._circuits: defaultdict[str, Circuit] = defaultdict(lambda: Circuit(monotonic))

    async def open(self) -> None:
        self._calls, self._streams = (
            Pool(at_once, CONNECT_SECONDS, SILENCE_SECONDS, IDLE_SECONDS) for at_once in (POOLED, 0)
        )

    async def close(self) -> None:
        for pool in (self._calls, self._streams):
            if pool is not None:
                pool.close()
        self._calls = self._streams = None

    async def ping(self) -> None:
        if self._calls is None:
            raise Transient("service-unavailable", "The gateway has not opened its connections yet.")

    def state(self, service: str) -> State:
        """Is this service asked at all, as this gateway sees it?"""
        return self._circuits[service].state

    async def stream(self, service: str, request: web.Request, target: str, address: str) -> web.StreamResponse:
        """Hand a call on and its answer back, neither whole in memory unless it is small."""
        body: bytes | StreamReader = b""
        length: int | None = 0
        if request.can_read_body:
            length = None if decoded(request) else request.content_length
            if length is not None and length <= SMALL_BYTES:
                # What is in memory can be sent again over a new connection when a kept one proves to be dead.
                body = await read_body(request, SMALL_BYTES)
                length = len(body)
            else:
                body = request.content
        out = _Out(request.method, target, onward(request, address, length=length), body, length)
        exchange = await self._begin(service, out, events=EVENTS in request.headers.get("Accept", ""))
        try:
            if request.method != "HEAD" and (exchange.length or SMALL_BYTES) < SMALL_BYTES:
                # Head and body leave together, and an answer that breaks off can still be told as a problem.
                return _handed_back(request, exchange, await _whole(service, exchange))
            return await _hand_back(request, exchange)
        finally:
            await exchange.end()

    async def fetch(
        self, service: str, request: web.Request, target: str, address: str, *, body: bytes, id_: UUID
    ) -> Fetched:
        """Hand a call on with a body read before, under the id of its Idempotency-Key; the whole answer."""
        head = onward(request, address, length=len(body), id_=id_)
        return await self._fetched(service, _Out(request.method, target, head, body, len(body)))

    async def get(self, service: str, path: str, headers: Mapping[str, str], timeout_seconds: float) -> Fetched:
        """A question of the gateway's own; raises Transient when the answer takes longer."""
        head = ended([], [f"{name}: {value}\r\n" for name, value in headers.items()])
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._fetched(service, _Out("GET", path, head))
        except TimeoutError as error:
            detail = f"The service {service} did not answer within {timeout_seconds:g} seconds."
            raise Transient("service-unavailable", detail) from error

    async def _fetched(self, service: str, out: "_Out") -> Fetched:
        exchange = await self._begin(service, out, events=False)
        try:
            body = await _whole(service, exchange)
            headers = {str(name): value for name, value in back(exchange.headers).items()}
            return Fetched(exchange.message.code, headers, body)
        finally:
            await exchange.end()

    async def _begin(self, service: str, out: "_Out", *, events: bool) -> Exchange:
        """The beginning of an answer; raises Transient, or Unanswered when the call may have been carried out."""
        try:
            return await self._once(service, out, events=events)
        except (Unanswered, _Unsent) as error:
            # What was never sent may be sent again; what was sent only if twice is as good as once.
            if isinstance(error, Unanswered) and out.method not in _SAFE:
                raise
        await asyncio.sleep(RETRY_PAUSE_SECONDS)
        return await self._once(service, out, events=events)

    async def _once(self, service: str, out: "_Out", *, events: bool) -> Exchange:
        pool = self._streams if events else self._calls
        if pool is None:
            raise Transient("service-unavailable", "The gateway is stopping.", retry_after=5)
        url = self._directory.url(service)
        circuit = self._circuits[service]
        if not circuit.admit():
            detail = f"The service {service} has left several calls without an answer and is not asked for a moment."
            raise Transient("service-unavailable", detail, retry_after=max(1.0, circuit.rest_seconds))
        try:
            exchange = await pool.call(url, out.call(url))
        except Unreached as error:
            self._failed(service, circuit)
            detail = f"The service {service} does not answer; try again soon."
            raise _Unsent("service-unavailable", detail, retry_after=2) from error
        except Lost as error:
            # While the caller still sends, a break may be theirs, and nobody gives up a service for its callers.
            if isinstance(out.body, bytes):
                self._failed(service, circuit)
            else:
                circuit.abandoned()
            raise _unanswered(service) from error
        except BaseException:
            circuit.abandoned()
            raise
        if circuit.succeeded():
            _tell(service, given_up=False)
        return exchange

    def _failed(self, service: str, circuit: Circuit) -> None:
        if circuit.failed():
            _tell(service, given_up=True)


@dataclass(slots=True)
class _Out:
    """A call as it goes on: `head` begins behind the line that tells whose it is."""

    method: str
    target: str
    head: bytes
    body: bytes | StreamReader = b""
    length: int | None = None

    def call(self, url: str) -> Call:
        """As it is sent to the service at `url`."""
        begin = f"{self.method} {self.target} HTTP/1.1\r\nHost: {url.partition('://')[2]}\r\n"
        return Call(self.method, begin.encode("utf-8", "surrogateescape") + self.head, self.body, self.length)


def _tell(service: str, *, given_up: bool) -> None:
    metrics.CIRCUIT_OPEN.of(service).set(int(given_up))
    if given_up:
        log.warning("service_given_up", service=service, failures=FAILURES)
    else:
        log.info("service_back", service=service)


class _Unsent(Transient):
    """Nothing of the call reached the service."""


def _unanswered(service: str) -> Unanswered:
    return Unanswered(
        "service-unavailable",
        f"The service {service} broke off before it answered; whether the call was carried out is not known.",
        retry_after=2,
    )


async def _whole(service: str, exchange: Exchange) -> bytes:
    try:
        return await exchange.whole()
    except aiohttp.ClientError as error:
        raise _unanswered(service) from error


def _handed_back(request: web.Request, exchange: Exchange, body: bytes) -> web.StreamResponse:
    """A whole answer; most are written as they came, with our own headers behind theirs."""
    message = exchange.message
    if (
        request.version == HttpVersion11
        and request.keep_alive
        and message.code not in _BODILESS
        and ("Content-Type" in message.headers)
    ):
        told = stamp_of(request, message.headers.get("Vary"))
        return Written(message.code, back_at_once(message, told, len(body)) + body)
    return web.Response(status=message.code, reason=message.reason, headers=back(exchange.headers), body=body)


async def _hand_back(request: web.Request, exchange: Exchange) -> web.StreamResponse:
    message = exchange.message
    response = web.StreamResponse(status=message.code, reason=message.reason, headers=back(exchange.headers))
    await response.prepare(request)
    task = asyncio.current_task()
    endless = exchange.headers.get("Content-Type", "").partition(";")[0].strip().lower() == EVENTS
    if endless and task is not None:
        request.app[STREAMS].add(task)
    try:
        async for chunk in exchange.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, PlatformError):
        # The head is out: cutting the connection is the one way left to say that this is not all.
        if request.transport is not None:
            request.transport.abort()
    finally:
        if task is not None:
            request.app[STREAMS].discard(task)
    return response
