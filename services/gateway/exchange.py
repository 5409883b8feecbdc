"""Exchange: access tokens that auth gives for what else lets somebody in, held for a while."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dataaggregator.clock import Clock
from dataaggregator.errors import NotFound, Transient, Unauthenticated
from dataaggregator.http.client import ServiceClient

# So old may be what a token says, and when it was asked for last. What was taken back ends sooner: as a token does.
FRESH = timedelta(seconds=60)
REMEMBERED = 10_000
ASK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Held:
    token: str
    had_at: datetime
    expires_at: datetime


class Exchange:
    """Of one kind: auth is asked at `path`, in a body with the one `field`; `refusal` is what nobody is let in by."""

    def __init__(
        self, services: ServiceClient, clock: Clock, path: str, field: str, refusal: Callable[[], Unauthenticated]
    ) -> None:
        self._services = services
        self._clock = clock
        self._path = path
        self._field = field
        self._refusal = refusal
        self._held: dict[bytes, _Held] = {}
        self._asking: dict[bytes, asyncio.Task[_Held]] = {}

    async def token(self, shown: str, *, anew: bool = False) -> str:
        """A token for `shown`, asked for `anew` or held; raises Unauthenticated, Transient when auth does not answer.

        While auth does not answer, a token that is held goes on until its end.
        """
        name, now = hashlib.sha256(shown.encode()).digest(), self._clock.now()
        held = self._held.get(name)
        if held is not None and not anew and now - held.had_at < FRESH and now < held.expires_at:
            return held.token
        try:
            return (await self._ask(name, shown)).token
        except NotFound:
            self._held.pop(name, None)
            raise self._refusal() from None
        except Transient:
            if held is None or anew or now >= held.expires_at:
                raise
            return held.token

    async def _ask(self, name: bytes, shown: str) -> _Held:
        """Many calls at once ask once."""
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.create_task(self._fetch(name, shown), name="exchange")
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(asking)

    async def _fetch(self, name: bytes, shown: str) -> _Held:
        now = self._clock.now()
        given = await self._services.post("auth", self._path, {self._field: shown}, timeout_seconds=ASK_SECONDS)
        held = _Held(given["access_token"], now, datetime.fromisoformat(given["expires_at"]))
        if len(self._held) >= REMEMBERED:
            self._held.clear()
        self._held[name] = held
        return held
