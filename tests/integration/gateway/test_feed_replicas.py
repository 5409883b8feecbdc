"""The feed through several gateways: whichever one a listener comes to, it goes on where it was, or is told."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from dataaggregator.settings import Settings
from services.gateway.feed import tail as tails
from services.gateway.feed.domain import Wanted
from services.gateway.feed.streams import Streams

from .conftest import Platform, Sent, started, take
from .test_feed import connector, names, positions, say_many

QUIET_SECONDS = 0.3


@pytest.fixture
async def replicas(platform_settings: Settings) -> AsyncIterator[list[Platform]]:
    async with AsyncExitStack() as held:
        yield [await held.enter_async_context(started(platform_settings)) for _ in range(2)]


async def forget_up_to(platform: Platform, position: int) -> None:
    """Let what stands up to here outlive the retention, and one process remove it."""
    async with platform.ports.database.platform() as tx:
        old = "UPDATE gateway.feed SET appended_at = now() - interval '8 days' WHERE position <= $1"
        await tx.execute(old, position)
    await tails.Tail(platform.ports.database, platform.ports.bus, platform.clock).forget_old()


async def kept(platform: Platform, last: int) -> list[int]:
    """What stands behind this position."""
    async with platform.ports.database.platform() as tx:
        found = "SELECT position FROM gateway.feed WHERE type LIKE 'connector.%' AND position > $1 ORDER BY position"
        return [row["position"] for row in await tx.fetch(found, last)]


async def heard(platform: Platform, last: int) -> list[Sent]:
    """What a listener gets who comes with this id, up to an event that happens then."""
    live, subject = connector("live")
    async with platform.events("/api/events?type=connector.*", str(last)) as events:
        await platform.say(live, subject)
        found = await take(events, 1)
        while found[-1].data.get("subject") != subject:
            found += await take(events, 1)
    return found


async def test_a_reset_is_said_by_every_replica_exactly_when_something_after_the_id_is_gone(
    replicas: list[Platform],
) -> None:
    first, second = replicas
    await say_many(first, [f"n{number}" for number in range(6)])
    async with first.events("/api/events?type=connector.*", "0") as events:
        there = positions(await take(events, 6))
    await forget_up_to(first, there[3])
    for platform in (second, first):
        for last in (*range(there[0] - 1, there[-1] + 1), 10**6):
            told = await heard(platform, last)
            resets = [one for one in told if one.event == "reset"]
            assert len(resets) == (0 if there[3] <= last <= there[-1] else 1), (last, there)
            assert resets or positions(told) == await kept(platform, last)


async def test_what_is_removed_while_a_listener_reads_is_a_reset_and_no_gap(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tails, "AT_ONCE", 4)
    await say_many(platform, [f"n{number}" for number in range(10)])
    async with platform.events("/api/events?type=connector.*", "0") as events:
        there = positions(await take(events, 10))
    tail = tails.Tail(platform.ports.database, platform.ports.bus, platform.clock)
    await tail.open()
    said = await Streams(tail).events(Wanted(platform.workspace, ("connector.*",)), there[0] - 1)
    assert [(await anext(said)).id for _ in range(4)] == [str(one) for one in there[:4]]
    await forget_up_to(platform, there[6])
    assert (await anext(said)).event == "reset"
    await tail.close()


async def test_a_replica_that_is_behind_catches_up_before_it_judges_an_id(platform: Platform) -> None:
    tail = tails.Tail(platform.ports.database, platform.ports.bus, platform.clock)
    await tail.open()
    async with platform.events("/api/events?type=connector.*") as events:
        await say_many(platform, ["a", "b"])
        first, second = positions(await take(events, 2))
    said = await Streams(tail).events(Wanted(platform.workspace, ("connector.*",)), first)
    assert (await anext(said)).id == str(second)
    await tail.close()


@pytest.mark.parametrize("seed", range(2))
async def test_a_listener_that_moves_between_replicas_hears_everything_once_and_in_order(
    replicas: list[Platform], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(tails, "KEPT_IN_MEMORY", chance.choice([2, 20, 5_000]))
    monkeypatch.setattr(tails, "AT_ONCE", chance.choice([3, 500]))
    wanted = [f"n{number}" for number in range(240)]

    async def happen() -> None:
        for start in range(0, len(wanted), 12):
            await say_many(chance.choice(replicas), wanted[start : start + 12])

    happening = asyncio.create_task(happen())
    seen: list[Sent] = []
    while len(seen) < len(wanted):
        last = seen[-1].id if seen else "0"
        async with chance.choice(replicas).events("/api/events?type=connector.*", last) as events:
            try:
                async with asyncio.timeout(chance.uniform(0, QUIET_SECONDS)):
                    while True:
                        seen.append(await anext(events))
            except TimeoutError:
                continue
    await happening
    assert {one.event for one in seen} == {None}
    assert sorted(names(seen)) == sorted(wanted)
    assert positions(seen) == sorted(set(positions(seen)))
