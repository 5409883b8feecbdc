"""Token buckets in Redis, shared by any number of processes: one script a decision, and leases for busy callers."""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataaggregator.errors import Transient
from dataaggregator.limits import Bucket
from dataaggregator.rate import Decision, Rate, decided
from dataaggregator.redis_link import LinkDownError, RedisLink, RedisRefusedError, Script, Word
from dataaggregator.telemetry import logs

LEASE_SECONDS = 1.0
LEASE_TOKENS = 100
_RETRY_SECONDS = 5.0

# Refills the bucket by Redis' own clock, puts back what a lease did not use, takes the call's cost, and then a lease:
# a quarter of what is left at most, so that the last tokens are given out one by one whoever asks.
_TAKE = Script("""
local capacity, per_second = tonumber(ARGV[1]), tonumber(ARGV[2])
local cost, ahead, back = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(held[1]) or capacity, tonumber(held[2]) or now
tokens = math.min(capacity, tokens + back + math.max(0, now - at) * per_second / 1000000)
local allowed, leased = 0, 0
if tokens >= cost then
  allowed = 1
  leased = math.min(ahead, math.floor((tokens - cost) / 4))
  tokens = tokens - cost - leased
end
if tokens < capacity then
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens), 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - tokens) / per_second * 1000) + 1000)
else
  redis.call('DEL', KEYS[1])
end
return {allowed, leased, string.format('%.17g', tokens)}
""")

log = logs.get(__name__)

# rate_limit:<class>:<key>, and :x<factor> behind it for trusted networks.
_KEY = re.compile(r"rate_limit:([a-z]+):(.+?)(?::x([0-9]+))?")
_SCAN = 1000


@dataclass(slots=True)
class _Lease:
    """What this process holds of one bucket: ``left`` tokens until ``until``, beside ``stored`` ones in Redis."""

    rate: Rate
    left: int = 0
    stored: float = 0.0
    until: float = 0.0
    ahead: int = 0
    asking: bool = False
    #: While a call asks for more than its own tokens: set when it has them.
    told: asyncio.Event | None = None


class RedisLimits:
    """For several processes and replicas: they share each bucket, at ``rate_limit:<class>:<key>``.

    A caller that is busy here gets tokens of a ``leased`` class ahead, twice as many each time they are used up,
    LEASE_TOKENS at most, and is then answered without asking Redis. Leased tokens have left the bucket, so however
    many processes share it, they allow no more than its limit and what refilled in between. A lease ends after
    LEASE_SECONDS, so in any span of time T no more is allowed than the limit and the refill of T + LEASE_SECONDS. What
    a lease did not use goes back into the bucket; until then a caller may be refused that much early by another
    process. Classes without leases are exact.
    """

    name = "limits"

    def __init__(
        self,
        url: str,
        rates: Mapping[str, Rate],
        *,
        leased: Collection[str] = ("api",),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = RedisLink(url)
        self._rates = dict(rates)
        self._leased = frozenset(leased)
        self._monotonic = monotonic
        self._leases: dict[Bucket, _Lease] = {}
        self._returner: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Seek Redis; where it does not answer this goes on without, and finds it later."""
        await self._link.open()
        if self._returner is None:
            self._returner = asyncio.create_task(self._return_unused(), name="limits")

    async def close(self) -> None:
        """Give back what is leased, and end the connection."""
        returner, self._returner = self._returner, None
        if returner is not None:
            returner.cancel()
            await asyncio.wait([returner])
            await self._give_back(self._leases)
            self._leases = {}
        await self._link.close()

    async def ping(self) -> None:
        """Return if Redis answers; raises Transient."""
        await self._call("PING")

    async def take(self, limit_class: str, key: str, cost: int = 1, factor: int = 1) -> Decision:
        name = Bucket(limit_class, key, factor)
        lease = self._leases.get(name)
        if lease is not None and lease.left >= cost and self._monotonic() < lease.until:
            return _spend(lease, cost)
        rate = self._rates[limit_class].times(factor)
        if limit_class not in self._leased:
            allowed, _, stored = await self._ask(name, rate, cost)
            return decided(rate, allowed, stored, cost)
        if lease is None:
            lease = self._leases[name] = _Lease(rate)
        elif lease.told is not None:
            await lease.told.wait()  # of many calls at once one asks for all
            if lease.left >= cost and self._monotonic() < lease.until:
                return _spend(lease, cost)
        return await self._renew(name, lease, cost)

    async def buckets(self, limit_class: str | None = None, key: str | None = None) -> Sequence[Bucket]:
        pattern = f"rate_limit:{limit_class or '*'}:{'*' if key is None else _literally(key)}*"
        found: set[Bucket] = set()
        cursor: Word = 0
        while True:
            cursor, keys = await self._call("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN)
            found |= {bucket for raw in keys if (bucket := self._bucket(raw.decode())) is not None}
            if int(cursor) == 0:
                return sorted(one for one in found if key in (None, one.key))

    async def clear(self, bucket: Bucket) -> None:
        """What processes hold of it goes on until its lease ends: more was asked for, nothing is refused."""
        await self._call("DEL", _key(bucket))

    def _bucket(self, key: str) -> Bucket | None:
        """None for a class that this version does not know."""
        matched = _KEY.fullmatch(key)
        if matched is None or matched[1] not in self._rates:
            return None
        return Bucket(matched[1], matched[2], int(matched[3] or 1))

    async def _call(self, *words: Word) -> Any:
        try:
            return await self._link.call(*words)
        except (LinkDownError, RedisRefusedError) as error:
            raise self._unavailable(error) from None

    async def _renew(self, name: Bucket, lease: _Lease, cost: int) -> Decision:
        """Ask Redis for this call, and for more of them if the last lease was used up in its time."""
        began, first = self._monotonic(), not lease.asking
        back, lease.left = lease.left, 0
        if first:
            lease.asking = True
            busy = not back and began < lease.until
            lease.ahead = min(LEASE_TOKENS, max(1, 2 * lease.ahead)) if busy else 0
            lease.told = asyncio.Event() if lease.ahead > 1 else None
        try:
            ahead = lease.ahead if first else 0
            allowed, leased, lease.stored = await self._ask(name, lease.rate, cost, ahead, back)
        finally:
            if first:
                lease.asking = False
                if lease.told is not None:
                    lease.told.set()
                    lease.told = None
        if leased or not lease.left:
            lease.until = began + LEASE_SECONDS
        lease.left += leased
        if not allowed and lease.left >= cost:  # another call of this process brought a lease meanwhile
            return _spend(lease, cost)
        return decided(lease.rate, allowed, lease.stored + lease.left, cost)

    async def _ask(self, name: Bucket, rate: Rate, cost: int, ahead: int = 0, back: int = 0) -> tuple[bool, int, float]:
        """Allowed, leased, and what the bucket still holds; raises Transient."""
        arguments = (rate.requests, repr(rate.per_second), cost, ahead, back)
        try:
            allowed, leased, stored = await self._link.run(_TAKE, [_key(name)], *arguments)
        except (LinkDownError, RedisRefusedError) as error:
            raise self._unavailable(error) from None
        return bool(allowed), int(leased), float(stored)

    async def _return_unused(self) -> None:
        """Give back, again and again, what was leased and not used in its time."""
        while True:
            await asyncio.sleep(LEASE_SECONDS)
            now = self._monotonic()
            ended = {name: lease for name, lease in self._leases.items() if lease.until <= now and not lease.asking}
            for name in ended:
                del self._leases[name]
            await self._give_back(ended)

    async def _give_back(self, leases: Mapping[Bucket, _Lease]) -> None:
        """What cannot be given back is lost: the bucket refills, and nothing was allowed that should not be."""
        unused = [(name, lease.rate, lease.left) for name, lease in leases.items() if lease.left]
        for lease in leases.values():
            lease.left = 0
        asked = (self._ask(name, rate, 0, 0, left) for name, rate, left in unused)
        for failed in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(failed, Exception) and not isinstance(failed, Transient):
                log.bug("lease_not_returned", failed)

    def _unavailable(self, error: Exception) -> Transient:
        detail = f"Redis at {self._link.address} does not answer: {error}."
        return Transient("limits-unavailable", detail, retry_after=_RETRY_SECONDS)


def _spend(lease: _Lease, cost: int) -> Decision:
    lease.left -= cost
    return decided(lease.rate, True, lease.stored + lease.left)


def _key(name: Bucket) -> str:
    limit_class, key, factor = name
    return f"rate_limit:{limit_class}:{key}" if factor == 1 else f"rate_limit:{limit_class}:{key}:x{factor}"


def _literally(key: str) -> str:
    """As a pattern of Redis that matches just this."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", key)
