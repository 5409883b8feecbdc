"""Callers: who a call at the edge comes from, by an access token, an API key or the cookie of a browser."""

import hmac
from collections.abc import Sequence

from aiohttp import web

from dataaggregator import api_keys
from dataaggregator.errors import Denied, Unauthenticated
from dataaggregator.http import cookies
from dataaggregator.http.app import VERIFIER
from dataaggregator.http.bearer import CALLER, INSTEAD
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.identity import ANONYMOUS, Identity
from dataaggregator.ports import Ports

from . import routing
from .exchange import Exchange

#: A cookie that auth itself has to see: its name and what it carries.
SHOWN: web.RequestKey[tuple[str, str] | None] = web.RequestKey("shown")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Callers:
    """Verifies what a caller shows; for a key or a cookie, the token that auth gives for it goes on in its place."""

    def __init__(self, services: ServiceClient, ports: Ports) -> None:
        self._keys = Exchange(services, ports.clock, "/internal/api-keys/exchange", "key", _no_key)
        self._sessions = Exchange(services, ports.clock, "/internal/sessions/resume", "session", _no_session)
        self._csrf_key = ports.keys.derive(cookies.PURPOSE)
        self._origins: Sequence[str] = ports.settings.cors_origins

    async def identify(self, request: web.Request, path: str) -> Identity:
        """Raises Unauthenticated, Denied for a call that may be forged, or Transient when nobody can tell."""
        request[SHOWN] = request[INSTEAD] = None  # an answer to who asks for them costs less than that there is none
        if routing.ends_a_login(path) and (login := cookies.shown_by(request, cookies.LOGIN)):
            request[SHOWN] = cookies.LOGIN, login
        given = request.headers.get("Authorization")
        session = cookies.shown_by(request) if given is None else None
        if session is not None:
            return await self._by_cookie(request, path, session)
        scheme, _, shown = (given or "").partition(" ")
        shown = shown.strip()
        if scheme.lower() != "bearer" or not shown:
            raise Unauthenticated("token-missing", "You are not logged in.")
        if not shown.startswith(api_keys.PREFIX):
            return await self._verified(request, shown)
        if not api_keys.well_formed(shown):
            raise _no_key()
        return await self._instead(request, self._keys, shown)

    async def _by_cookie(self, request: web.Request, path: str, session: str) -> Identity:
        """A browser sends its cookie with every call, also one that a page of somebody else makes it do."""
        if routing.of_a_session(path):
            request[SHOWN] = cookies.SESSION, session
        elif routing.public(request.method, path):
            return ANONYMOUS
        identity = await self._instead(request, self._sessions, session)
        if request.method not in _SAFE:
            self._refuse_forged(request, identity)
        return identity

    async def _instead(self, request: web.Request, exchange: Exchange, shown: str) -> Identity:
        request[INSTEAD] = token = await exchange.token(shown)
        try:
            return await self._verified(request, token)
        except Unauthenticated:
            # Something changed since the token was given: what lets in now is what auth says now.
            request[INSTEAD] = token = await exchange.token(shown, anew=True)
            return await self._verified(request, token)

    async def _verified(self, request: web.Request, token: str) -> Identity:
        request[CALLER] = identity = await request.app[VERIFIER].verify(token)
        return identity

    def _refuse_forged(self, request: web.Request, identity: Identity) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != request.host:
            raise Denied("origin-refused", f"A page of {origin} may not act in the name of who is logged in here.")
        given = request.headers.get(cookies.CSRF_HEADER)
        if not given:
            raise Denied("csrf-token-missing", f"A change by a cookie needs the header {cookies.CSRF_HEADER}.")
        wanted = cookies.csrf_token(self._csrf_key, identity.family or "")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), wanted.encode()):
            raise Denied("csrf-token-wrong", f"The header {cookies.CSRF_HEADER} is not that of this session.")


def _no_key() -> Unauthenticated:
    return Unauthenticated("api-key-invalid", "This API key is not valid: it was taken back, has run out, or is wrong.")


def _no_session() -> Unauthenticated:
    return Unauthenticated("session-ended", "This session has ended; log in again.")
