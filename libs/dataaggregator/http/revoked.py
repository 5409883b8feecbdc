"""Asks auth for everything that is revoked; what RedisRevocations does when it may have missed something."""

import aiohttp

from dataaggregator.clock import Clock
from dataaggregator.directory import Directory
from dataaggregator.errors import Transient
from dataaggregator.http.tokens import ServiceTokens
from dataaggregator.revocations import Revocation
from dataaggregator.revocations.wire import unpacked
from dataaggregator.secrets import KeyRing

_ASK_SECONDS = 1.0


class AskAuth:
    """``GET /internal/revocations``, in the name of ``caller``; raises Transient when auth does not answer it."""

    def __init__(self, directory: Directory, keys: KeyRing, clock: Clock, caller: str) -> None:
        self._directory = directory
        self._tokens = ServiceTokens(keys, caller, clock)

    async def __call__(self) -> list[Revocation]:
        url = f"{self._directory.url('auth')}/internal/revocations"
        headers = {"Authorization": f"Bearer {self._tokens.token('auth')}"}
        try:
            timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.get(url, headers=headers, raise_for_status=True, allow_redirects=False) as response,
            ):
                return unpacked(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            raise Transient("service-unavailable", "The service auth does not say what is revoked.") from None
