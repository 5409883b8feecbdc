"""Token buckets kept in this process."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dataaggregator.limits import Bucket
from dataaggregator.rate import Decision, Rate, decided, refilled


@dataclass(slots=True)
class _Level:
    tokens: float
    at: float


class InProcessLimits:
    """For the embedded composition, and for what goes on locally while the shared store does not answer."""

    name = "limits"
    _SWEEP_AT = 10_000

    def __init__(self, rates: Mapping[str, Rate], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rates = dict(rates)
        self._monotonic = monotonic
        self._buckets: dict[Bucket, _Level] = {}

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def ping(self) -> None:
        """It is always there."""

    async def take(self, limit_class: str, key: str, cost: int = 1, factor: int = 1) -> Decision:
        rate = self._rates[limit_class].times(factor)
        now = self._monotonic()
        bucket = Bucket(limit_class, key, factor)
        level = self._buckets.get(bucket)
        if level is None:
            self._sweep(now)
            level = self._buckets[bucket] = _Level(float(rate.requests), now)
        level.tokens = refilled(rate, level.tokens, now - level.at)
        level.at = now
        allowed = level.tokens >= cost
        if allowed:
            level.tokens -= cost
        return decided(rate, allowed, level.tokens, cost)

    async def buckets(self, limit_class: str | None = None, key: str | None = None) -> Sequence[Bucket]:
        now = self._monotonic()
        return sorted(
            bucket
            for bucket, level in self._buckets.items()
            if limit_class in (None, bucket.limit_class) and key in (None, bucket.key)
            if not self._full(bucket, level, now)
        )

    async def clear(self, bucket: Bucket) -> None:
        self._buckets.pop(bucket, None)

    def _full(self, bucket: Bucket, level: _Level, now: float) -> bool:
        rate = self._rates[bucket.limit_class].times(bucket.factor)
        return refilled(rate, level.tokens, now - level.at) >= rate.requests

    def _sweep(self, now: float) -> None:
        """Forget buckets that have filled up again: a full one and none at all decide alike."""
        if len(self._buckets) < self._SWEEP_AT:
            return
        self._buckets = {
            bucket: level
            for bucket, level in self._buckets.items()
            if now - level.at < self._rates[bucket.limit_class].seconds
        }
