"""Rate limits: the port, and the token bucket kept in this process."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Protocol


@dataclass(frozen=True)
class Rate:
    """``requests`` in ``seconds``; the bucket holds ``requests`` and refills evenly."""

    requests: int
    seconds: int


@dataclass(frozen=True)
class Decision:
    """What a limit says: ``remaining`` calls now, a full bucket in ``reset_seconds``, next one in ``retry_after``."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    retry_after: int = 0


class Limits(Protocol):
    """The limits store; adapters pass ``tests/unit/kit/limits_conformance.py``."""

    async def take(self, limit_class: str, key: str, cost: int = 1, factor: int = 1) -> Decision:
        """Take ``cost`` tokens from the bucket of ``key`` in ``limit_class`` (``api``, ``login``, ``run``).

        ``factor`` raises the limit for callers of trusted networks. A refused call takes nothing. Raises Transient
        when the store does not answer.
        """


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class InProcessLimits:
    """Token buckets in this process, for the embedded composition."""

    _SWEEP_AT = 10_000

    def __init__(self, rates: Mapping[str, Rate], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rates = dict(rates)
        self._monotonic = monotonic
        self._buckets: dict[tuple[str, str, int], _Bucket] = {}

    async def take(self, limit_class: str, key: str, cost: int = 1, factor: int = 1) -> Decision:
        rate = self._rates[limit_class]
        capacity, per_second = rate.requests * factor, rate.requests * factor / rate.seconds
        now = self._monotonic()
        bucket = self._buckets.get((limit_class, key, factor))
        if bucket is None:
            self._sweep(now)
            bucket = self._buckets[(limit_class, key, factor)] = _Bucket(float(capacity), now)
        bucket.tokens = min(float(capacity), bucket.tokens + max(0.0, now - bucket.at) * per_second)
        bucket.at = now
        allowed = bucket.tokens >= cost
        if allowed:
            bucket.tokens -= cost
        return Decision(
            allowed=allowed,
            limit=capacity,
            remaining=int(bucket.tokens),
            reset_seconds=ceil((capacity - bucket.tokens) / per_second),
            retry_after=0 if allowed else max(1, ceil((cost - bucket.tokens) / per_second)),
        )

    def _sweep(self, now: float) -> None:
        """Forget buckets that have filled up again: a full one and none at all decide alike."""
        if len(self._buckets) < self._SWEEP_AT:
            return
        self._buckets = {
            name: bucket for name, bucket in self._buckets.items() if now - bucket.at < self._rates[name[0]].seconds
        }
