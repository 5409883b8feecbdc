"""Forward: a call handed to the service that answers it, body and answer streamed, failures told plainly."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from uuid import UUID

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from dataaggregator.directory import Directory
from dataaggregator.errors import PlatformError, Transient
from dataaggregator.http import cookies
from dataaggregator.http.app import STREAMS
from dataaggregator.http.bearer import INSTEAD
from dataaggregator.telemetry import logs, metrics, traces

from .bodies import read_body
from .callers import SHOWN
from .circuit import FAILURES, Circuit, State

# Also for a free connection of the pool: who hangs takes all of them, and nobody waits behind that without end.
CONNECT_SECONDS = 5.0
# Longer than anything a service does while its caller waits; streams send a heartbeat more often.
SILENCE_SECONDS = 120.0
RETRY_PAUSE_SECONDS = 0.1
POOLED = 200
SMALL_BYTES = 256 * 1024
EVENTS = "text/event-stream"

#: How the caller came to the outermost proxy that is trusted: http or https.
SCHEME = web.RequestKey("scheme", str)

Data = BytesIO | aiohttp.StreamReader | None

log = logs.get("gateway")

# RFC 9110, 7.6.1: of the connection, not of the call.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_ON = _HOP_BY_HOP | {
    "host",
    "cookie",
    "expect",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "traceparent",
    "idempotency-id",
    *(header.lower() for header in cookies.ONWARD.values()),
}
_NOT_BACK = _HOP_BY_HOP | {"server", "date"}
_REQUEST_ID = re.compile(r"^[\x21-\x7e]{1,128}$")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


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
        self._calls: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None
        self._circuits: defaultdict[str, Circuit] = defaultdict(lambda: Circuit(monotonic))

    async def open(self) -> None:
        self._calls = _session(POOLED)
        self._streams = _session(0)

    async def close(self) -> None:
        for session in (self._calls, self._streams):
            if session is not None:
                await session.close()
        self._calls = self._streams = None

    async def ping(self) -> None:
        if self._calls is None:
            raise Transient("service-unavailable", "The gateway has not opened its connections yet.")

    def state(self, service: str) -> State:
        """Is this service asked at all, as this gateway sees it?"""
        return self._circuits[service].state

    async def stream(self, service: str, request: web.Request, target: str, address: str) -> web.StreamResponse:
        """Hand a call on and its answer back, neither whole in memory unless it is small."""
        data: Data = None
        if request.can_read_body:
            small = request.content_length is not None and request.content_length <= SMALL_BYTES
            # What is in memory can be sent again over a new connection when a pooled one proves to be dead.
            data = BytesIO(await read_body(request, SMALL_BYTES)) if small else request.content
        headers = _onward(request, address)
        async with self._send(service, request.method, target, headers, data) as answer:
            if request.method != "HEAD" and (answer.content_length or SMALL_BYTES) < SMALL_BYTES:
                # Head and body leave together, and an answer that breaks off can still be told as a problem.
                whole = await _whole(service, answer)
                return web.Response(status=whole.status, reason=answer.reason, headers=whole.headers, body=whole.body)
            return await _hand_back(request, answer)

    async def fetch(
        self, service: str, request: web.Request, target: str, address: str, *, body: bytes, id_: UUID
    ) -> Fetched:
        """Hand a call on with a body read before, under the id of its Idempotency-Key; the whole answer."""
        headers = _onward(request, address)
        headers.popall("Idempotency-Key", None)
        headers["Idempotency-Id"] = str(id_)
        headers.popall("Content-Length", None)
        headers.popall("Accept-Encoding", None)  # kept as it is: who asks again may take another coding
        async with self._send(service, request.method, target, headers, BytesIO(body)) as answer:
            return await _whole(service, answer)

    async def get(self, service: str, path: str, headers: Mapping[str, str], timeout_seconds: float) -> Fetched:
        """A question of the gateway's own; raises Transient when the answer takes longer."""
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                self._send(service, "GET", path, CIMultiDict(headers), None) as answer,
            ):
                return await _whole(service, answer)
        except TimeoutError as error:
            detail = f"The service {service} did not answer within {timeout_seconds:g} seconds."
            raise Transient("service-unavailable", detail) from error

    @asynccontextmanager
    async def _send(
        self, service: str, method: str, path: str, headers: CIMultiDict[str], data: Data
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The beginning of an answer; raises Transient, or Unanswered when the call may have been carried out."""
        answer = await self._begin(service, method, path, headers, data)
        try:
            yield answer
        finally:
            answer.close() if answer.content.exception() or not answer.content.at_eof() else answer.release()

    async def _begin(
        self, service: str, method: str, path: str, headers: CIMultiDict[str], data: Data
    ) -> aiohttp.ClientResponse:
        try:
            return await self._once(service, method, path, headers, data)
        except (Unanswered, _Unsent) as error:
            # What was never sent may be sent again; what was sent only if twice is as good as once.
            if isinstance(error, Unanswered) and method not in _SAFE:
                raise
        await asyncio.sleep(RETRY_PAUSE_SECONDS)
        return await self._once(service, method, path, headers, data)

    async def _once(
        self, service: str, method: str, path: str, headers: CIMultiDict[str], data: Data
    ) -> aiohttp.ClientResponse:
        session = self._streams if EVENTS in headers.get("Accept", "") else self._calls
        if session is None:
            raise Transient("service-unavailable", "The gateway is stopping.", retry_after=5)
        url = URL(f"{self._directory.url(service)}{path}", encoded=True)
        with self._watched(service, caller_sends=isinstance(data, aiohttp.StreamReader)):
            try:
                return await session.request(method, url, headers=headers, data=data, allow_redirects=False)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                detail = f"The service {service} does not answer; try again soon."
                raise _Unsent("service-unavailable", detail, retry_after=2) from error
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _unanswered(service) from error

    @contextmanager
    def _watched(self, service: str, *, caller_sends: bool) -> Iterator[None]:
        """A call whose end is noted; raises Transient if the service is given up for now.

        While the caller still sends, a break may be theirs, and nobody gives up a service for its callers.
        """
        circuit = self._circuits[service]
        if not circuit.admit():
            detail = f"The service {service} has left several calls without an answer and is not asked for a moment."
            raise Transient("service-unavailable", detail, retry_after=max(1.0, circuit.rest_seconds))
        try:
            yield
        except (_Unsent, Unanswered) as error:
            if caller_sends and isinstance(error, Unanswered):
                circuit.abandoned()
            elif circuit.failed():
                _tell(service, given_up=True)
            raise
        except BaseException:
            circuit.abandoned()
            raise
        if circuit.succeeded():
            _tell(service, given_up=False)


def _session(per_host: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Shorter than any service keeps an idle connection, so that none is used while it is being closed.
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=per_host, keepalive_timeout=10),
        timeout=aiohttp.ClientTimeout(
            total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
        ),
        auto_decompress=False,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
    )


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


async def _whole(service: str, answer: aiohttp.ClientResponse) -> Fetched:
    try:
        return Fetched(answer.status, _back(answer), await answer.read())
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _unanswered(service) from error


def _onward(request: web.Request, address: str) -> CIMultiDict[str]:
    named = {token.strip().lower() for token in request.headers.get("Connection", "").split(",")}
    headers = CIMultiDict(
        (name, value) for name, value in request.headers.items() if name.lower() not in _NOT_ON | named
    )
    if (instead := request.get(INSTEAD)) is not None:
        headers["Authorization"] = f"Bearer {instead}"
    if (shown := request.get(SHOWN)) is not None:
        headers[cookies.ONWARD[shown[0]]] = shown[1]
    headers["X-Forwarded-For"] = address
    headers["X-Forwarded-Host"] = request.host
    headers["X-Forwarded-Proto"] = request[SCHEME]
    headers["X-Request-ID"] = request_id(request)
    if traceparent := traces.traceparent():
        headers["traceparent"] = traceparent
    return headers


def request_id(request: web.Request) -> str:
    """The caller's own id for the call if it is a sane one, else the trace's."""
    given = request.headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.match(given) else traces.trace_id() or ""


def _back(answer: aiohttp.ClientResponse) -> dict[str, str]:
    named = {token.strip().lower() for token in answer.headers.get("Connection", "").split(",")}
    return {str(name): value for name, value in answer.headers.items() if name.lower() not in _NOT_BACK | named}


async def _hand_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_back(answer))
    await response.prepare(request)
    task = asyncio.current_task()
    endless = answer.content_type == EVENTS
    if endless and task is not None:
        request.app[STREAMS].add(task)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, TimeoutError, PlatformError):
        # The head is out: cutting the connection is the one way left to say that this is not all.
        if request.transport is not None:
            request.transport.abort()
    finally:
        if task is not None:
            request.app[STREAMS].discard(task)
    return response
