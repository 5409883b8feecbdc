"""The throttle of an account: how often its password may be tried, counted in Postgres for all replicas together."""

import hashlib
import hmac

from dataaggregator.errors import RateLimited
from dataaggregator.ports import Ports
from dataaggregator.telemetry import metrics

from . import store
from .domain import Bucket, draw, email_key


class Throttle:
    """Every try of a password draws from it, whether at a login or where the present one is asked for."""

    def __init__(self, ports: Ports) -> None:
        self._database = ports.database
        self._clock = ports.clock
        self._rate = ports.settings.rate_limit_login
        # Hides e-mail addresses among the attempts.
        self._key = ports.keys.derive("login-account")

    @property
    def seconds(self) -> float:
        """After so long an account that was let alone has all its tries again."""
        return self._rate.seconds

    async def draw(self, email: str) -> None:
        """Counted before the password is looked at and committed alone, so that no parallel attempt is free."""
        key = hmac.new(self._key, email_key(email).encode(), hashlib.sha256).digest()
        now = self._clock.now()
        async with self._database.platform() as tx:
            bucket = await store.lock_bucket(tx, key, Bucket(float(self._rate.requests), now))
            bucket, wait_seconds = draw(bucket, self._rate.requests, self._rate.seconds, now)
            await store.save_bucket(tx, key, bucket)
        if wait_seconds > 0:
            metrics.LOGINS.of("limited").inc()
            metrics.RATE_LIMITED.of("login").inc()
            raise RateLimited(
                "rate-limited", "Too many logins for this account; wait a little.", retry_after=wait_seconds
            )
