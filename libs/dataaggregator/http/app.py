"""The way of every call: trace, token, workspace, permission, input, handler, answer; errors become problems."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler as RawHandler
from aiohttp.typedefs import Middleware

from dataaggregator.errors import Invalid, NotFound, PlatformError
from dataaggregator.http import health, openapi, parked, parse, problems
from dataaggregator.http.answer import Answer, TextAnswer
from dataaggregator.http.bearer import CALLER
from dataaggregator.http.call import Call
from dataaggregator.http.door import Door
from dataaggregator.http.passed import Passed
from dataaggregator.http.route import Route
from dataaggregator.http.tokens import RemoteJwks, TokenVerifier
from dataaggregator.ports import Ports
from dataaggregator.resource import Resource
from dataaggregator.telemetry import logs, metrics, traces

#: Verifies tokens; for middlewares that must know the caller before a route is chosen.
VERIFIER = web.AppKey("verifier", TokenVerifier)

#: Tasks of a middleware that write without end; cancelled when the service stops.
STREAMS = web.AppKey("streams", set[asyncio.Task[Any]])

#: Headers that the answer to a request gets, whatever it will be; for middlewares (limits, CORS).
ANSWER_HEADERS = web.RequestKey("answer_headers", dict[str, str])
#: What metrics and logs call a request that a middleware answers; bounded, never with an id.
ROUTE_LABEL = web.RequestKey("route_label", str)

_TRACE = web.RequestKey("trace", traces.Trace)
_REQUEST_ID = re.compile(r"^[\x21-\x7e]{1,128}$")
_QUIET = frozenset({"/health/live", "/health/ready", "/metrics"})

log = logs.get(__name__)


class Served(Protocol):
    """What is served of a service."""

    name: str
    routes: Sequence[Route]
    needs: Sequence[Resource]
    wants: Sequence[Resource]
    schema: str | None
    middlewares: Sequence[Middleware]
    passes: Callable[[str], bool] | None


def make_app(service: Served, ports: Ports) -> web.Application:
    """The aiohttp application of a service: its routes, and those that every service has."""
    verifier = TokenVerifier(
        service.name, RemoteJwks(ports.directory, ports.clock), ports.revocations, ports.keys, ports.clock
    )
    app = web.Application(middlewares=[_edge(service.name), *service.middlewares])
    app[VERIFIER] = verifier
    app[STREAMS] = set()
    routes = served_routes(service, ports)
    routes.append(_document_route(service.name, routes))
    for route in routes:
        door = Door(route, verifier)
        # A door takes part in aiohttp's cache of built middlewares, so it is handed over as one bound method.
        for method in (route.method, "HEAD") if route.method == "GET" else (route.method,):
            app.router.add_route(method, route.template, door.pass_through, expect_handler=_expect)
    if service.passes is not None:
        app.router.register_resource(Passed(service.passes, _expect))
    app.on_response_prepare.append(_stamp)
    app.on_shutdown.append(_end_streams)
    return app


def served_routes(service: Served, ports: Ports) -> list[Route]:
    """Its routes, and those that every service has."""
    # Who does not know what is revoked refuses every token, and says so.
    wants = [*service.wants, *((ports.bus,) if service.schema is not None else ())]
    routes = [*service.routes, *health.routes([*service.needs, ports.revocations], wants)]
    if service.schema is not None:
        routes += parked.routes(service.name, service.schema, ports.database)
    return routes


def _document_route(name: str, routes: Sequence[Route]) -> Route:
    """GET /internal/openapi.json: the public part of this service's document."""
    written: list[bytes] = []

    async def document(_call: Call) -> Answer:
        if not written:
            written.append(orjson.dumps(openapi.document(routes, name)))
        return TextAnswer(text=written[0], content_type="application/json")

    return Route("GET", "/internal/openapi.json", document, "The service's own document", "health", None, internal=True)


async def _stamp(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(stamp_of(request, response.headers.get("Vary")))


def stamp_of(request: web.Request, vary: str | None) -> dict[str, str]:
    """What every answer, streams too, says of the call it belongs to; ``vary`` is what it says itself."""
    told: dict[str, str] = {}
    trace = request.get(_TRACE)
    if trace is not None:
        given = request.headers.get("X-Request-ID")
        told["X-Request-ID"] = given if given and _REQUEST_ID.match(given) else trace.trace_id
        told["traceparent"] = trace.traceparent
    if (more := request.get(ANSWER_HEADERS)) is not None:
        told.update(more)
        if vary and "Vary" in told:
            told["Vary"] = f"{vary}, {told['Vary']}"
    told["Server"] = "dataaggregator"
    return told


async def _end_streams(app: web.Application) -> None:
    """Streams go on for ever by nature: end them before the server waits for calls to finish."""
    for task in app[STREAMS]:
        task.cancel()
    for route in app.router.routes():
        door = getattr(route.handler, "__self__", None)
        if isinstance(door, Door):
            door.end_streams()


async def _expect(request: web.Request) -> None:
    """RFC 9110, 10.1.1: only 100-continue is known; anything else is passed over."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _edge(service: str) -> Middleware:
    """The outermost layer: trace and request id, errors → problems, one metric and one line a call."""

    @web.middleware
    async def edge(request: web.Request, handler: RawHandler) -> web.StreamResponse:
        started = time.perf_counter()
        route = _route_of(request)
        with traces.continue_from(request.headers.get("traceparent"), f"{request.method} {route}") as trace:
            request[_TRACE] = trace
            response = await _answered(request, handler, trace.trace_id)
            trace.set("http.response.status_code", response.status)
            seconds = time.perf_counter() - started
            route = request.get(ROUTE_LABEL, route)
            method = request.method if request.method in _METHODS else "other"
            metrics.HTTP_REQUESTS.of(service, route, method, str(response.status)).inc()
            metrics.HTTP_REQUEST_DURATION.of(service, route, method).observe(seconds)
            _tell(service, request, route, response.status, seconds)
        return response

    return edge


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _route_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "unknown" if resource is None or type(resource) is Passed else resource.canonical


def _tell(service: str, request: web.Request, route: str, status: int, seconds: float) -> None:
    if route in _QUIET and status < 400:
        return
    log.info(
        "http_call",
        service=service,
        method=request.method,
        route=route,
        status=status,
        duration_ms=round(seconds * 1000, 1),
        **(_who(request) if status == 403 else {}),
    )


def _who(request: web.Request) -> dict[str, str]:
    """Whom a refused call came from, by ids: an e-mail would go wherever logs go."""
    caller = request.get(CALLER)
    if caller is None:
        return {}
    told = {"user_id": caller.user_id, "service_id": caller.service, "api_key_id": caller.key and caller.key.id}
    return {name: str(value) for name, value in told.items() if value is not None}


async def _answered(request: web.Request, handler: RawHandler, trace_id: str) -> web.StreamResponse:
    """The handler's answer, or the problem its error is."""
    headers: Mapping[str, str] | None = None
    try:
        parse.check_target(request)
        return await handler(request)
    except PlatformError as refused:
        error = refused
    except web.HTTPException as refused:
        error, headers = _from_aiohttp(request, refused)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as bug:
        log.bug("http_bug", bug, method=request.method, route=_route_of(request))
        error = problems.internal_error()
    return problems.answer(error, trace_id, headers)


def _from_aiohttp(request: web.Request, raised: web.HTTPException) -> tuple[PlatformError, Mapping[str, str] | None]:
    """What the router found: no such path, or not with this method."""
    if isinstance(raised, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(raised.allowed_methods))
        return Invalid("method-not-allowed", f"{request.method} is not possible here; {allowed} is."), {
            "Allow": allowed
        }
    if raised.status == 404:
        return NotFound("route-unknown", "There is nothing at this address."), None
    return Invalid("request-malformed", raised.reason), None
