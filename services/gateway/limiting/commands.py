"""Limiting commands: take from the buckets of a call, and say what is left in them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from dataaggregator.errors import RateLimited, Transient
from dataaggregator.limits import Bucket
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.ports import Ports
from dataaggregator.rate import Decision, Rate, decided, refilled
from dataaggregator.telemetry import metrics
from services.gateway.addresses import bucket_of, networks, within

from . import store

TRUSTED_FACTOR = 10


class Caller(NamedTuple):
    """Whose buckets: the address always, the user once the token is known, the workspace of a run start."""

    address: str
    user_id: UUID | None
    workspace_id: UUID | None
    key_id: str | None = None


class Limiting:
    """Takes from the limits of a class; knows what to do while the store of limits does not answer."""

    def __init__(self, ports: Ports) -> None:
        rates = ports.settings.rates()
        self._limits = ports.limits
        self._local = InProcessLimits({"api": rates["api"]})
        self._login_rate = rates["login"]
        self._database = ports.database
        self._clock = ports.clock
        self._trusted = networks(ports.settings.rate_limit_trusted_networks)

    async def take(self, limit_class: str, caller: Caller) -> dict[str, str]:
        """The RateLimit headers of the call; raises RateLimited with them once the bucket is empty."""
        decision = await self._decide(limit_class, caller)
        if decision is None:
            return {}
        headers = {
            "RateLimit-Limit": str(decision.limit),
            "RateLimit-Remaining": str(decision.remaining),
            "RateLimit-Reset": str(decision.reset_seconds),
        }
        if not decision.allowed:
            metrics.RATE_LIMITED.of(limit_class).inc()
            raise Refused(headers, decision.retry_after)
        return headers

    async def buckets(self, limit_class: str | None, key: str | None) -> Sequence[Bucket]:
        """Those that are not full."""
        return await self._limits.buckets(limit_class, key)

    async def look(self, bucket: Bucket) -> Decision:
        """What a bucket holds; nothing is taken from it."""
        return await self._limits.take(bucket.limit_class, bucket.key, cost=0, factor=bucket.factor)

    async def clear(self, limit_class: str | None, key: str | None) -> int:
        """Fill the buckets; how many were not full. Those of this process are for when the store does not answer."""
        found = await self._limits.buckets(limit_class, key)
        for bucket in found:
            await self._limits.clear(bucket)
        for bucket in await self._local.buckets(limit_class, key):
            await self._local.clear(bucket)
        return len(found)

    async def forget_outlived(self) -> None:
        """Remove what was counted in the database and no longer matters."""
        async with self._database.platform() as tx:
            await store.remove_full(tx, self._clock.now() - timedelta(seconds=self._login_rate.seconds))

    async def _decide(self, limit_class: str, caller: Caller) -> Decision | None:
        """Without the store, calls go on with a bucket here, logins are counted in the database, run starts wait."""
        key = _key(limit_class, caller)
        if key is None:
            return None
        factor = TRUSTED_FACTOR if within(caller.address, self._trusted) else 1
        try:
            return await self._limits.take(limit_class, key, factor=factor)
        except Transient:
            if limit_class == "api":
                return await self._local.take("api", key, factor=factor)
            if limit_class == "login":
                return await self._count_login(f"{key}:x{factor}", self._login_rate.times(factor))
            raise

    async def _count_login(self, key: str, rate: Rate) -> Decision:
        """Slower than the store and as strict: no login goes by uncounted, so without a database none goes by."""
        async with self._database.platform() as tx:
            now = self._clock.now()
            held, touched_at = await store.lock_bucket(tx, key, float(rate.requests), now)
            tokens = refilled(rate, held, (now - touched_at).total_seconds())
            allowed = tokens >= 1
            left = tokens - 1 if allowed else tokens
            await store.save_bucket(tx, key, left, now)
        return decided(rate, allowed, left)


class Refused(RateLimited):
    """Too many calls; `headers` tell of the bucket that is empty."""

    def __init__(self, headers: dict[str, str], retry_after: int) -> None:
        super().__init__("rate-limited", f"Too many calls; wait {retry_after} s.", retry_after=retry_after)
        self.headers = headers


def _key(limit_class: str, caller: Caller) -> str | None:
    if limit_class == "run" and caller.workspace_id is not None:
        return f"workspace:{caller.workspace_id}"
    if limit_class == "api" and caller.key_id is not None:
        return f"key:{caller.key_id}"
    if limit_class == "api" and caller.user_id is not None:
        return f"user:{caller.user_id}"
    return f"ip:{bucket_of(caller.address)}"
