"""Callers: who a call at the edge comes from, by an access token or by an API key that one is had for."""

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web

from dataaggregator import api_keys
from dataaggregator.clock import Clock
from dataaggregator.errors import NotFound, Transient, Unauthenticated
from dataaggregator.http.app import VERIFIER
from dataaggregator.http.bearer import INSTEAD
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.identity import Identity

# So old may be what a key lets do, and when it was used last. What was taken back ends sooner: as a token does.
FRESH = timedelta(seconds=60)
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Held:
    token: str
    had_at: datetime
    expires_at: datetime


class Callers:
    """Verifies what a caller shows; for a key, the token that auth gives for it, which goes on in its place."""

    def __init__(self, services: ServiceClient, clock: Clock) -> None:
        self._services = services
        self._clock = clock
        self._held: dict[bytes, _Held] = {}
        self._asking: dict[bytes, asyncio.Task[_Held]] = {}

    async def identify(self, request: web.Request) -> Identity:
        """Raises Unauthenticated, or Transient when nobody can tell."""
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        shown = shown.strip()
        if scheme.lower() != "bearer" or not shown:
            raise Unauthenticated("token-missing", "You are not logged in.")
        verifier = request.app[VERIFIER]
        if not shown.startswith(api_keys.PREFIX):
            return await verifier.verify(shown)
        request[INSTEAD] = await self._token(shown)
        try:
            return await verifier.verify(request[INSTEAD])
        except Unauthenticated:
            # Something changed since the token was given: what the key lets do now is what auth says now.
            request[INSTEAD] = await self._token(shown, anew=True)
            return await verifier.verify(request[INSTEAD])

    async def _token(self, key: str, *, anew: bool = False) -> str:
        if not api_keys.well_formed(key):
            raise _invalid()
        name, now = hashlib.sha256(key.encode()).digest(), self._clock.now()
        held = self._held.get(name)
        if held is not None and not anew and now - held.had_at < FRESH and now < held.expires_at:
            return held.token
        try:
            return (await self._ask(name, key)).token
        except NotFound:
            self._held.pop(name, None)
            raise _invalid() from None
        except Transient:
            if held is None or anew or now >= held.expires_at:
                raise
            return held.token

    async def _ask(self, name: bytes, key: str) -> _Held:
        """Many calls at once with one key ask once."""
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.create_task(self._exchange(name, key), name="api-key")
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(asking)

    async def _exchange(self, name: bytes, key: str) -> _Held:
        now = self._clock.now()
        given = await self._services.post("auth", "/internal/api-keys/exchange", {"key": key}, timeout_seconds=5)
        held = _Held(given["access_token"], now, datetime.fromisoformat(given["expires_at"]))
        if len(self._held) >= REMEMBERED:
            self._held.clear()
        self._held[name] = held
        return held


def _invalid() -> Unauthenticated:
    return Unauthenticated("api-key-invalid", "This API key is not valid: it was taken back, has run out, or is wrong.")
