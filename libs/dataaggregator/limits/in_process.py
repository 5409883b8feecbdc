"""Token buckets kept in this process."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dataaggregator.rate import Decision, Rate, decided, refilled


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class InProcessLimits:
    """For the embedded composition, and for what goes on locally while the shared store does not answer."""

    name = "limits"
    _SWEEP_AT = 10_000

    def __init__(self, rates: Mapping[str, Rate], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rates = dict(rates)
        self._monotonic = monotonic
        self._buckets: dict[tuple[str, str, int], _Bucket] = {}

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def ping(self) -> None:
        """It is always there."""

    async def take(self, limit_class: str, key: str, cost: int = 1, factor: int = 1) -> Decision:
        rate = self._rates[limit_class].times(factor)
        now = self._monotonic()
        bucket = self._buckets.get((limit_class, key, factor))
        if bucket is None:
            self._sweep(now)
            bucket = self._buckets[(limit_class, key, factor)] = _Bucket(float(rate.requests), now)
        bucket.tokens = refilled(rate, bucket.tokens, now - bucket.at)
        bucket.at = now
        allowed = bucket.tokens >= cost
        if allowed:
            bucket.tokens -= cost
        return decided(rate, allowed, bucket.tokens, cost)

    def _sweep(self, now: float) -> None:
        """Forget buckets that have filled up again: a full one and none at all decide alike."""
        if len(self._buckets) < self._SWEEP_AT:
            return
        self._buckets = {
            name: bucket for name, bucket in self._buckets.items() if now - bucket.at < self._rates[name[0]].seconds
        }
