"""What every adapter of the limits port must do; an adapter's test subclasses this."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

import pytest

from dataaggregator.limits import Bucket, Limits, Rate

# So slow that the time a test takes gives nothing back.
RATES = {"api": Rate(10, 1000), "login": Rate(2, 6000), "run": Rate(1, 100)}


class LimitsConformance(ABC):
    """``make`` gives an adapter with RATES and full buckets; ``forward`` moves the time it sees."""

    @abstractmethod
    def make(self) -> Limits: ...

    @abstractmethod
    async def forward(self, seconds: float) -> None: ...

    @pytest.fixture
    async def limits(self) -> AsyncIterator[Limits]:
        limits = self.make()
        await limits.open()
        yield limits
        await limits.close()

    async def test_a_full_bucket_gives_its_limit_and_then_refuses(self, limits: Limits) -> None:
        decisions = [await limits.take("api", "user:1") for _ in range(11)]
        assert [decision.allowed for decision in decisions] == [True] * 10 + [False]
        assert [decision.remaining for decision in decisions] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
        assert {decision.limit for decision in decisions} == {10}

    async def test_it_fills_up_evenly_and_says_when(self, limits: Limits) -> None:
        for _ in range(10):
            await limits.take("api", "user:1")
        refused = await limits.take("api", "user:1")
        assert (refused.retry_after, refused.reset_seconds) == (100, 1000)
        await self.forward(refused.retry_after)
        assert (await limits.take("api", "user:1")).allowed
        assert not (await limits.take("api", "user:1")).allowed
        await self.forward(10_000)
        assert (await limits.take("api", "user:1")).remaining == 9

    async def test_keys_and_classes_have_buckets_of_their_own(self, limits: Limits) -> None:
        assert (await limits.take("run", "a")).allowed
        assert not (await limits.take("run", "a")).allowed
        assert (await limits.take("run", "b")).allowed
        assert (await limits.take("api", "a")).allowed

    async def test_a_refused_call_takes_nothing(self, limits: Limits) -> None:
        assert (await limits.take("api", "a", cost=8)).allowed
        assert not (await limits.take("api", "a", cost=3)).allowed
        assert (await limits.take("api", "a", cost=2)).allowed

    async def test_a_factor_raises_the_limit_and_never_lifts_it(self, limits: Limits) -> None:
        decisions = [await limits.take("login", "trusted", factor=10) for _ in range(21)]
        assert [decision.allowed for decision in decisions] == [True] * 20 + [False]
        assert decisions[0].limit == 20

    async def test_calls_at_once_never_take_more_than_there_is(self, limits: Limits) -> None:
        decisions = await asyncio.gather(*(limits.take("api", "a") for _ in range(50)))
        assert sum(decision.allowed for decision in decisions) == 10

    async def test_a_clock_that_goes_back_gives_nothing_away(self, limits: Limits) -> None:
        for _ in range(10):
            await limits.take("api", "a")
        await self.forward(-500)
        assert not (await limits.take("api", "a")).allowed

    async def test_asking_for_nothing_tells_what_is_left(self, limits: Limits) -> None:
        await limits.take("api", "a", cost=4)
        told = await limits.take("api", "a", cost=0)
        assert (told.allowed, told.remaining) == (True, 6)

    async def test_buckets_that_are_not_full_are_told_by_class_and_key(self, limits: Limits) -> None:
        assert await limits.buckets() == []
        for limit_class, key, factor in (("api", "user:1", 1), ("api", "ip:2001:db8::/64", 10), ("login", "user:1", 1)):
            await limits.take(limit_class, key, factor=factor)
        assert await limits.buckets() == [
            ("api", "ip:2001:db8::/64", 10),
            ("api", "user:1", 1),
            ("login", "user:1", 1),
        ]
        assert await limits.buckets("login") == [("login", "user:1", 1)]
        assert await limits.buckets(key="user:1") == [("api", "user:1", 1), ("login", "user:1", 1)]
        assert await limits.buckets("api", "ip:2001:db8::/64") == [("api", "ip:2001:db8::/64", 10)]
        assert await limits.buckets(key="user:") == await limits.buckets(key="u*") == []
        await self.forward(10_000)
        assert await limits.buckets() == []

    async def test_a_bucket_that_was_cleared_is_full(self, limits: Limits) -> None:
        for key in ("a", "b"):
            assert (await limits.take("run", key)).allowed
        await limits.clear(Bucket("run", "a", 1))
        assert await limits.buckets() == [("run", "b", 1)]
        assert (await limits.take("run", "a")).allowed
        assert not (await limits.take("run", "b")).allowed

    async def test_one_that_is_open_answers_ping_and_may_be_closed_twice(self, limits: Limits) -> None:
        await limits.ping()
        await limits.close()
        await limits.close()
