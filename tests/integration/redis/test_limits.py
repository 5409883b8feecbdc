"""Limits in Redis keep the port's promises, share a bucket exactly, and stall nobody when Redis does not answer."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dataaggregator.errors import Transient
from dataaggregator.limits import Limits, Rate
from dataaggregator.limits.redis import LEASE_SECONDS, LEASE_TOKENS, RedisLimits
from dataaggregator.redis_link import TIMEOUT_SECONDS, RedisLink
from deploy.local.redis import PrivateRedis
from tests.unit.kit.limits_conformance import RATES, LimitsConformance

# Refills one in ten seconds.
SLOW = {"api": Rate(600, 6000), "login": Rate(10, 600)}


class TestRedisLimits(LimitsConformance):
    _now = 1000.0

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self._url = redis_url

    def make(self) -> Limits:
        return RedisLimits(self._url, RATES, monotonic=lambda: self._now)

    async def forward(self, seconds: float) -> None:
        """Redis has a clock of its own, so everything it holds is made so much older."""
        self._now += seconds
        async with linked(self._url) as redis:
            for key in await redis.call("KEYS", "rate_limit:*"):
                await redis.call("HINCRBY", key, "at", -int(seconds * 1_000_000))
                await redis.call("PEXPIRE", key, await redis.call("PTTL", key) - int(seconds * 1000))


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink(url)
    await link.open()
    yield link
    await link.close()


@asynccontextmanager
async def opened(url: str, rates: dict[str, Rate] = SLOW, count: int = 1) -> AsyncIterator[list[RedisLimits]]:
    """So many processes' limits on one Redis."""
    several = [RedisLimits(url, rates) for _ in range(count)]
    for limits in several:
        await limits.open()
    yield several
    for limits in several:
        await limits.close()


@asynccontextmanager
async def standing(url: str) -> AsyncIterator[RedisLimits]:
    """Limits for which no lease ends."""
    limits = RedisLimits(url, SLOW, monotonic=lambda: 0.0)
    await limits.open()
    yield limits
    await limits.close()


def held_by(limits: RedisLimits) -> int:
    """The tokens leased and not used."""
    return sum(lease.left for lease in limits._leases.values())


async def until_it_answers(limits: RedisLimits) -> None:
    """Wait until Redis is found again."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await limits.ping()
            except Transient:
                await asyncio.sleep(0.02)


async def eventually(limits: RedisLimits, remaining: int) -> None:
    """Wait until so many tokens are in the bucket."""
    async with asyncio.timeout(10):
        while True:
            if (await limits.take("api", "user:1", cost=0)).remaining == remaining:
                return
            await asyncio.sleep(0.05)


async def test_the_keys_are_those_of_the_contract_and_vanish_when_full(redis_url: str) -> None:
    async with opened(redis_url, {"api": Rate(10, 10)}) as [limits], linked(redis_url) as redis:
        await limits.take("api", "user:1")
        await limits.take("api", "ip:10.0.0.1", factor=10)
        assert sorted(await redis.call("KEYS", "*")) == [b"rate_limit:api:ip:10.0.0.1:x10", b"rate_limit:api:user:1"]
        for key, seconds_to_full in ((b"rate_limit:api:user:1", 1), (b"rate_limit:api:ip:10.0.0.1:x10", 0.1)):
            expires = await redis.call("PTTL", key)
            assert 0 < expires <= (seconds_to_full + 1) * 1000


async def test_a_login_takes_no_lease_and_is_exact_over_processes(redis_url: str) -> None:
    async with opened(redis_url, count=3) as several:
        taken = [several[number % 3].take("login", "ip:1") for number in range(60)]
        decisions = await asyncio.gather(*taken)
        assert sum(decision.allowed for decision in decisions) == 10
        assert not (await several[0].take("login", "ip:1")).allowed
        for _ in range(4):
            assert (await several[1].take("login", "ip:2")).allowed
        assert [(await several[2].take("login", "ip:2")).allowed for _ in range(7)] == [True] * 6 + [False]


async def test_a_busy_caller_is_answered_without_asking_redis(redis_url: str) -> None:
    async with opened(redis_url, {"api": Rate(100_000, 60)}) as [limits], linked(redis_url) as redis:
        await redis.call("CONFIG", "RESETSTAT")
        for _ in range(5_000):
            assert (await limits.take("api", "user:1")).allowed
        told = (await redis.call("INFO", "commandstats")).decode()
        scripts = int(told.split("cmdstat_evalsha:calls=")[1].split(",")[0])
        assert scripts <= 5_000 / LEASE_TOKENS + 20


async def test_of_many_calls_at_once_one_asks_redis_for_all(redis_url: str) -> None:
    async with opened(redis_url, {"api": Rate(100_000, 60)}) as [limits], linked(redis_url) as redis:

        async def call_again_and_again() -> None:
            for _ in range(200):
                assert (await limits.take("api", "user:1")).allowed
                await asyncio.sleep(0)

        await redis.call("CONFIG", "RESETSTAT")
        await asyncio.gather(*(call_again_and_again() for _ in range(32)))
        told = (await redis.call("INFO", "commandstats")).decode()
        scripts = int(told.split("cmdstat_evalsha:calls=")[1].split(",")[0])
        assert scripts <= 32 * 200 / 20  # the first leases are small


async def test_a_caller_who_is_not_busy_holds_nothing(redis_url: str) -> None:
    now = 0.0
    first, second = (RedisLimits(redis_url, SLOW, monotonic=lambda: now) for _ in range(2))
    await first.open()
    await second.open()
    for taken in range(1, 20):
        assert (await first.take("api", "user:1")).remaining == 600 - taken
        now += LEASE_SECONDS
    assert (await second.take("api", "user:1")).remaining == 580
    await first.close()
    await second.close()


@pytest.mark.parametrize("replicas", [2, 5])
async def test_racing_processes_never_allow_more_than_the_limit_and_lose_nothing(redis_url: str, replicas: int) -> None:
    async with opened(redis_url, count=replicas) as several:
        began = time.monotonic()

        async def hammer(limits: RedisLimits) -> int:
            """Call until Redis refuses, ten calls at once."""
            allowed = 0
            for _ in range(200):
                decisions = await asyncio.gather(*(limits.take("api", "user:1") for _ in range(10)))
                allowed += sum(decision.allowed for decision in decisions)
                if not any(decision.allowed for decision in decisions):
                    break
            return allowed

        allowed = sum(await asyncio.gather(*(hammer(limits) for limits in several)))
        refilled = (time.monotonic() - began) * SLOW["api"].per_second
        assert allowed <= 600 + math.ceil(refilled)
        for limits in several[1:]:
            await limits.close()  # what they hold goes back
        rest = sum([(await several[0].take("api", "user:1")).allowed for _ in range(10 * replicas)])
        refilled = (time.monotonic() - began) * SLOW["api"].per_second
        assert 600 <= allowed + rest <= 600 + math.ceil(refilled)


async def test_an_unused_lease_goes_back_by_itself(redis_url: str) -> None:
    async with opened(redis_url, count=2) as [busy, other]:
        for _ in range(50):
            await busy.take("api", "user:1")
        assert held_by(busy) > 0
        await eventually(other, remaining=550)
        assert busy._leases == {}


async def test_a_lease_is_a_quarter_of_what_is_left_at_most(redis_url: str) -> None:
    async with standing(redis_url) as limits:
        most = 0
        for left in range(599, -1, -1):
            assert (await limits.take("api", "user:1")).remaining == left
            assert held_by(limits) <= left / 4
            most = max(most, held_by(limits))
        assert most > 50
        assert not (await limits.take("api", "user:1")).allowed


async def test_what_a_lease_did_not_use_goes_back_once(redis_url: str) -> None:
    async with standing(redis_url) as limits:
        for _ in range(50):
            await limits.take("api", "user:1")
        assert held_by(limits) > 0
        cost = held_by(limits) + 1
        left = 550 - cost
        assert (await limits.take("api", "user:1", cost=cost)).remaining == left
        for _ in range(50):
            left -= 1
            assert (await limits.take("api", "user:1")).remaining == left
        assert held_by(limits) > 0
        for _ in range(3):
            await limits._give_back(limits._leases)
        async with standing(redis_url) as other:
            assert (await other.take("api", "user:1", cost=0)).remaining == left


async def test_calls_at_once_use_what_one_of_them_leased(redis_url: str) -> None:
    async with opened(redis_url, {"api": Rate(10, 1000)}) as [limits]:
        assert (await limits.take("api", "user:1")).allowed
        decisions = await asyncio.gather(*(limits.take("api", "user:1") for _ in range(20)))
        assert sum(decision.allowed for decision in decisions) == 9


async def test_an_ended_lease_is_not_used(redis_url: str) -> None:
    now = 0.0
    limits = RedisLimits(redis_url, SLOW, monotonic=lambda: now)
    await limits.open()
    for _ in range(50):
        await limits.take("api", "user:1")
    assert held_by(limits) > 0
    async with linked(redis_url) as redis:
        await redis.call("HSET", "rate_limit:api:user:1", "tokens", "-1000")
        now += LEASE_SECONDS
        assert not (await limits.take("api", "user:1")).allowed
    await limits.close()


async def test_a_server_that_forgot_the_script_is_taught_again(redis_url: str) -> None:
    async with opened(redis_url) as [limits], linked(redis_url) as redis:
        await limits.take("login", "ip:1")
        await redis.call("SCRIPT", "FLUSH")
        assert (await limits.take("login", "ip:1")).remaining == 8


async def test_what_was_taken_stays_taken_over_a_lost_connection(redis_url: str) -> None:
    async with opened(redis_url) as [limits], linked(redis_url) as redis:
        for _ in range(10):
            await limits.take("login", "ip:1")
        await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until_it_answers(limits)
        assert not (await limits.take("login", "ip:1")).allowed


async def test_a_killed_redis_is_told_at_once_and_found_again(redis_server: PrivateRedis, redis_url: str) -> None:
    async with opened(redis_url) as [limits]:
        await limits.take("login", "ip:1")
        redis_server.kill()
        try:
            await _refused(limits)
            began = time.monotonic()
            for _ in range(1_000):
                await _refused(limits)
            assert time.monotonic() - began < TIMEOUT_SECONDS
        finally:
            redis_server.start()
        await until_it_answers(limits)
        assert (await limits.take("login", "ip:1")).remaining == 9


async def test_a_redis_that_never_answers_stalls_nobody_for_long(redis_server: PrivateRedis, redis_url: str) -> None:
    async with opened(redis_url) as [limits]:
        redis_server.pause()
        try:
            began = time.monotonic()
            told = await asyncio.gather(*(limits.take("login", f"ip:{n}") for n in range(100)), return_exceptions=True)
            assert all(isinstance(error, Transient) for error in told)
            assert time.monotonic() - began < TIMEOUT_SECONDS + 1
            began = time.monotonic()
            for _ in range(1_000):
                await _refused(limits)
            assert time.monotonic() - began < TIMEOUT_SECONDS
        finally:
            redis_server.resume()
        await until_it_answers(limits)


async def test_a_start_without_redis_does_not_fail_or_hang(redis_server: PrivateRedis, redis_url: str) -> None:
    redis_server.kill()
    try:
        limits = RedisLimits(redis_url, SLOW)
        async with asyncio.timeout(5):
            await limits.open()
        await _refused(limits)
    finally:
        redis_server.start()
    await until_it_answers(limits)
    assert (await limits.take("api", "user:1")).allowed
    await limits.close()


async def test_a_wrong_password_is_told_without_saying_it(redis_url: str) -> None:
    wrong = redis_url.replace("redis://:", "redis://:wrong-")
    async with opened(wrong) as [limits]:
        with pytest.raises(Transient) as refused:
            await limits.ping()
    assert refused.value.code == "limits-unavailable"
    assert "WRONGPASS" in refused.value.detail
    assert "wrong-" not in refused.value.detail


async def _refused(limits: RedisLimits) -> None:
    with pytest.raises(Transient) as refused:
        await limits.take("login", "ip:1")
    assert refused.value.code == "limits-unavailable"
    assert refused.value.retry_after
