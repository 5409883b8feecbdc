"""How often something may happen, and the token bucket that counts it. Pure."""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple


@dataclass(frozen=True)
class Rate:
    """``requests`` in ``seconds``; the bucket holds ``requests`` and refills evenly."""

    requests: int
    seconds: int

    @property
    def per_second(self) -> float:
        """How many tokens come back in a second."""
        return self.requests / self.seconds

    def times(self, factor: int) -> "Rate":
        """The rate ``factor`` times as high."""
        return self if factor == 1 else Rate(self.requests * factor, self.seconds)


class Decision(NamedTuple):
    """What a limit says: ``remaining`` calls now, a full bucket in ``reset_seconds``, next one in ``retry_after``."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    retry_after: int = 0


def refilled(rate: Rate, tokens: float, elapsed_seconds: float) -> float:
    """What a bucket that held ``tokens`` holds so much later; a clock that went back gives nothing."""
    return min(float(rate.requests), tokens + max(0.0, elapsed_seconds) * rate.per_second)


def decided(rate: Rate, allowed: bool, tokens: float, cost: int = 1) -> Decision:
    """The decision about a call of ``cost`` after which the bucket holds ``tokens``."""
    return Decision(
        allowed=allowed,
        limit=rate.requests,
        remaining=int(tokens),
        reset_seconds=ceil((rate.requests - tokens) / rate.per_second),
        retry_after=0 if allowed else max(1, ceil((cost - tokens) / rate.per_second)),
    )
