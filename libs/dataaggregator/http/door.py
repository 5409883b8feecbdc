"""One route's door: who may come in with what, the handler, and its answer on the way out."""

import asyncio
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel

from dataaggregator.errors import Denied, Unauthenticated
from dataaggregator.http import coding, parse
from dataaggregator.http.answer import Answer, StreamAnswer, TextAnswer
from dataaggregator.http.bearer import CALLER, authorization
from dataaggregator.http.call import Call
from dataaggregator.http.etag import format_etag
from dataaggregator.http.identity import ANONYMOUS, Identity
from dataaggregator.http.route import Route
from dataaggregator.http.tokens import TokenVerifier
from dataaggregator.telemetry import logs, traces

_JSON = "application/json"

log = logs.get(__name__)


class Door:
    """Everything about a route that can be prepared once is prepared here."""

    def __init__(self, route: Route, verifier: TokenVerifier) -> None:
        self._route = route
        self._verifier = verifier
        self._query = parse.QueryReader(route.query)
        self._public = route.permission is None and not route.internal
        self._streams: set[asyncio.Future[None]] = set()

    async def pass_through(self, request: web.Request) -> web.StreamResponse:
        """One call, from its token to its answer."""
        identity = ANONYMOUS if self._public else await self._identify(request)
        workspace = None if self._public else self._enter(identity, parse.header(request, "X-Workspace"))
        route = self._route
        path = parse.path_of(route, request)
        query = self._query.read(request)
        if_match = parse.if_match(route, request)
        parse.idempotency_key(route, request)
        parse.own_headers(route, request)
        raw = b"" if route.body is None else await parse.read_body(route, request)
        call = Call(
            identity=identity,
            workspace_id=workspace,
            path=path,
            body=None if route.body is None else parse.parse_body(route, raw),
            query=query,
            headers=request.headers,
            if_match=if_match,
            trace_id=traces.trace_id() or "",
            request=request,
            raw_body=raw,
            recheck=_known if self._public else partial(self._identify, request),
        )
        return await self._respond(request, await route.handler(call))

    async def _identify(self, request: web.Request) -> Identity:
        given = authorization(request)
        if given is None:
            raise Unauthenticated("token-missing", "You are not logged in.")
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("token-missing", "The Authorization header should be: Bearer and an access token.")
        request[CALLER] = identity = await self._verifier.verify(token.strip())
        return identity

    def _enter(self, identity: Identity, wanted: str | None) -> UUID | None:
        """The workspace of the call, if the caller may do this there; raises Denied."""
        route = self._route
        if route.internal or identity.service is not None:
            return _enter_as_service(route, identity, wanted)
        if wanted:
            membership = identity.membership(wanted)
            if membership is None:
                raise Denied("workspace-denied", f"You are not a member of a workspace {wanted}.")
            workspace: UUID | None = membership.workspace_id
        else:
            workspace = identity.default_workspace
        if route.permission not in identity.permissions(workspace):
            if workspace is None:
                raise Denied("no-workspace", "You are not a member of any workspace.")
            role = identity.role_in(workspace)
            held = f"your role in this workspace is {role}" if role else "you have no role in this workspace"
            if identity.scopes is not None:
                held = f"{held}, and the key's scopes are {', '.join(sorted(identity.scopes))}"
            raise Denied("permission-denied", f"This needs the permission {route.permission}; {held}.")
        if route.by_login and identity.scopes is not None:
            raise Denied("permission-denied", "No API key may do this: log in to do it.")
        return workspace

    async def _respond(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        headers = dict(answer.headers)
        if answer.etag is not None:
            headers["ETag"] = format_etag(answer.etag)
        if isinstance(answer, StreamAnswer):
            return await self._stream(request, answer, headers)
        if isinstance(answer, TextAnswer):
            headers.setdefault("Content-Type", answer.content_type)
            body = answer.text.encode() if isinstance(answer.text, str) else answer.text
        else:
            body = self._encode(answer)
            if body:
                headers["Content-Type"] = _JSON
        body = await coding.encoded(request.headers.get("Accept-Encoding"), headers, body)
        return web.Response(body=body or None, status=answer.status, headers=headers)

    def _encode(self, answer: Answer) -> bytes:
        """The body as JSON; an answer that the route does not declare is a bug."""
        declared = self._route.answers.get(answer.status, _UNDECLARED)
        body = answer.body
        if declared is _UNDECLARED or (body is None) != (declared is None):
            raise TypeError(f"{self._route.method} {self._route.path} does not declare its answer {answer.status}")
        if body is None:
            return b""
        if isinstance(body, BaseModel):
            # Without warnings: a definition that cannot be read is shown as it is stored.
            return body.__pydantic_serializer__.to_json(body, by_alias=True, warnings=False)
        return orjson.dumps(body, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)

    async def _stream(self, request: web.Request, answer: StreamAnswer, headers: dict[str, str]) -> web.StreamResponse:
        """Write until the source ends, the caller goes away, or the service stops."""
        headers.setdefault("Content-Type", answer.content_type)
        headers.setdefault("Cache-Control", "no-store")
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        if request.method == "HEAD" or answer.write is None:
            return response
        task = asyncio.ensure_future(answer.write(response))
        self._streams.add(task)
        try:
            await asyncio.wait([task])
        finally:
            self._streams.discard(task)
            task.cancel()
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ConnectionError):
            log.bug("stream_broke_off", error, route=self._route.template)
        if (error is not None or (task.cancelled() and not answer.endless)) and request.transport is not None:
            request.transport.abort()  # the head is out: what else could say that this is not all?
        return response

    def end_streams(self) -> None:
        """The service stops: no stream goes on."""
        for task in self._streams:
            task.cancel()


_UNDECLARED: Any = object()


async def _known() -> None:
    """Who needs no token loses none."""


def _enter_as_service(route: Route, identity: Identity, wanted: str | None) -> UUID | None:
    """Internal routes are for our services, and our services for internal routes only."""
    if not route.internal:
        raise Denied("permission-denied", "This address is for people, not for services.")
    if identity.service is None:
        raise Denied("permission-denied", "This address is for the platform's own services.")
    if not wanted:
        return None
    try:
        return UUID(wanted)
    except ValueError:
        raise Denied("workspace-denied", "X-Workspace should be a workspace's id here.") from None
