"""The network between the bus and its broker cuts, swallows and forgets: every event is applied once, and soon."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest

from dataaggregator.db import Database
from dataaggregator.settings import Settings
from tests.faults import invariants
from tests.faults.at_rest import SmallBus
from tests.faults.proxy import Proxy, Side
from tests.faults.small_bus import BUS, small_services
from tests.integration.bus.rig import Rig

pytestmark = pytest.mark.faults

# A connection that only one side has forgotten is found dead by its missing heartbeats.
BACK_WITHIN_SECONDS = 30.0
LONGEST_BYTES = 60_000

Fault = Callable[[Proxy, random.Random], object]

FAULTS: dict[str, Fault] = {
    "cut": lambda proxy, _: proxy.cut(),
    "cut on the way there": lambda proxy, chance: proxy.cut_after(chance.randrange(LONGEST_BYTES), Side.SERVER),
    "cut on the way back": lambda proxy, chance: proxy.cut_after(chance.randrange(LONGEST_BYTES), Side.CLIENT),
    "gone for the broker": lambda proxy, _: proxy.half_open(Side.SERVER),
    "gone for the platform": lambda proxy, _: proxy.half_open(Side.CLIENT),
    "silent": lambda proxy, _: proxy.black_hole(),
}


@pytest.fixture
async def proxy(rabbitmq_url: str) -> AsyncIterator[Proxy]:
    """Between the services of this test and the broker."""
    async with Proxy(urlsplit(rabbitmq_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def rig(database: Database, settings: Settings, rabbitmq_url: str, proxy: Proxy) -> AsyncIterator[Rig]:
    """The bus's three small services, connected through the proxy."""
    async with small_services(database, settings, proxy.through(rabbitmq_url)) as rig:
        yield rig


@pytest.mark.tries(3, 60)
async def test_whatever_the_network_does_every_event_is_applied_once(
    rig: Rig, small_bus: SmallBus, proxy: Proxy, seed: int, chance: random.Random
) -> None:
    kind = list(FAULTS)[seed % len(FAULTS)]
    rig.start()
    await rig.say("s0", times=3)
    await invariants.settled(small_bus.connection, BUS)
    fault_at = chance.randrange(20)
    for number in range(30):
        await rig.say(f"s{chance.randrange(5)}", times=chance.randint(1, 20))
        if number == fault_at:
            FAULTS[kind](proxy, chance)
        await asyncio.sleep(chance.uniform(0, 0.02))
    began = time.monotonic()
    if kind == "silent":
        await asyncio.sleep(chance.uniform(0, 20))
        proxy.heal()
    await invariants.settled(small_bus.connection, BUS, BACK_WITHIN_SECONDS)
    print(f"{kind}: all applied {time.monotonic() - began:.1f} s later")  # noqa: T201 (shown with -s)
    await small_bus.check()
