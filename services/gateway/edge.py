"""The edge: what every call goes through before it is forwarded or answered here."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from aiohttp import web
from aiohttp.typedefs import Middleware

from dataaggregator.errors import Denied, Unauthenticated
from dataaggregator.http import coding
from dataaggregator.http.app import ANSWER_HEADERS, ROUTE_LABEL
from dataaggregator.http.identity import ANONYMOUS, Identity
from dataaggregator.settings import Settings

from . import routing
from .addresses import caller_of, networks, scheme_of
from .bodies import read_body
from .callers import Callers
from .cors import origin_headers, preflight_headers, security_headers
from .forward import Upstreams
from .heads import SCHEME
from .idempotency.commands import Idempotency
from .idempotency.domain import Kept, Owner, check_key, fingerprint
from .limiting.commands import Caller, Limiting, Refused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# A keyed request is read whole, because its bytes are what tells it from another one.
KEYED_BODY_BYTES = 4 * 1024 * 1024


class Edge:
    """The gateway's middlewares, and the forwarding at their end."""

    def __init__(
        self,
        settings: Settings,
        upstreams: Upstreams,
        limiting: Limiting,
        idempotency: Idempotency,
        callers: Callers,
    ) -> None:
        self._origins = settings.cors_origins
        self._below_too = settings.hsts_subdomains
        self._proxies = networks(settings.trusted_proxies)
        self._upstreams = upstreams
        self._limiting = limiting
        self._idempotency = idempotency
        self._callers = callers

    def middlewares(self) -> list[Middleware]:
        @web.middleware
        async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
            path = routing.canonical(request.rel_url.raw_path)
            return self._browsers(request, path) or await self._guard(request, path, handler)

        return [edge]

    def _browsers(self, request: web.Request, path: str) -> web.StreamResponse | None:
        """CORS and security headers on every answer, whoever gives it; the answer to a preflight."""
        origin = request.headers.get("Origin")
        forwarded = request.headers.get("X-Forwarded-Proto")
        request[SCHEME] = scheme = scheme_of(request.remote or "", request.scheme, forwarded, self._proxies)
        secure = security_headers(path, over_tls=scheme == "https", below_too=self._below_too)
        request[ANSWER_HEADERS] = {**secure, **origin_headers(origin, self._origins)}
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            request[ROUTE_LABEL] = "preflight"
            return web.Response(status=204, headers=preflight_headers(origin, self._origins))
        return None

    async def _guard(self, request: web.Request, path: str, handler: Handler) -> web.StreamResponse:
        """Token and limit, then on to the service, or to the gateway's own routes."""
        if not path.startswith("/api/"):
            return await handler(request)
        address = self.address(request)
        service = routing.service_of(path)
        must_know = service is not None and not routing.public(request.method, path)
        try:
            identity = await self._identify(request, path, must_know=must_know)
        except (Unauthenticated, Denied):
            await self._limit(request, "api", Caller(address, None, None))
            raise
        workspace = _workspace(request, identity)
        limit_class = routing.limit_class(request.method, path)
        await self._limit(request, limit_class, Caller(address, identity.user_id, workspace, _key(identity)))
        if service is None:
            return await handler(request)
        request[ROUTE_LABEL] = f"forward:{service}"
        query = request.rel_url.raw_query_string
        target = f"{path}?{query}" if query else path
        key = request.headers.get("Idempotency-Key") if routing.keeps_answer(request.method, path) else None
        if key is None or identity.user_id is None or workspace is None:
            return await self._upstreams.stream(service, request, target, address)
        owner = Owner(workspace, identity.user_id)
        return await self._once(request, owner, check_key(key), (service, target, address))

    def address(self, request: web.Request) -> str:
        """The caller's address, as far as trusted proxies tell."""
        return caller_of(request.remote or "", request.headers.get("X-Forwarded-For"), self._proxies)

    async def _identify(self, request: web.Request, path: str, *, must_know: bool) -> Identity:
        """Who is calling. Where nobody needs to be known, a bad token is as good as none."""
        try:
            return await self._callers.identify(request, path)
        except Unauthenticated:
            if must_know:
                raise
            return ANONYMOUS

    async def _limit(self, request: web.Request, limit_class: str, caller: Caller) -> None:
        try:
            request[ANSWER_HEADERS].update(await self._limiting.take(limit_class, caller))
        except Refused as refused:
            request[ANSWER_HEADERS].update(refused.headers)
            raise

    async def _once(
        self, request: web.Request, owner: Owner, key: str, where: tuple[str, str, str]
    ) -> web.StreamResponse:
        service, target, address = where
        body = await read_body(request, KEYED_BODY_BYTES)

        async def carry(id_: UUID) -> Kept:
            fetched = await self._upstreams.fetch(service, request, target, address, body=body, id_=id_)
            return Kept(fetched.status, fetched.headers, fetched.body)

        kept, again = await self._idempotency.once(owner, key, fingerprint(request.method, target, body), carry)
        headers = {name: value for name, value in kept.headers.items() if name.lower() != "content-length"}
        if again:
            headers["Idempotent-Replayed"] = "true"
        answer = await coding.encoded(request.headers.get("Accept-Encoding"), headers, kept.body)
        return web.Response(status=kept.status, headers=headers, body=answer)


def _key(identity: Identity) -> str | None:
    """The API key that calls, which has a limit of its own."""
    return None if identity.scopes is None else identity.family


def _workspace(request: web.Request, identity: Identity) -> UUID | None:
    """The workspace of the call as far as the edge can tell; a wrong one is refused by the service."""
    wanted = request.headers.get("X-Workspace")
    if not wanted:
        return identity.default_workspace
    membership = identity.membership(wanted)
    return None if membership is None else membership.workspace_id
