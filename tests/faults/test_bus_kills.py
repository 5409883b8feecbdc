"""A relay or a consumer is killed at any place: every event is applied once, each subject's in their order."""

import asyncio
import random

import pytest

from tests.faults.at_rest import SmallBus
from tests.faults.mortal import PLACES, Fate, Nursery
from tests.integration.bus.rig import Rig

pytestmark = pytest.mark.faults

MOST_ROUNDS = 200


@pytest.mark.tries(10, 200)
async def test_killed_at_any_place_every_event_is_applied_once(
    rig: Rig, small_bus: SmallBus, nursery: Nursery, seed: int, chance: random.Random
) -> None:
    places = sorted(PLACES)
    fate = Fate(places[seed % len(places)], chance.randint(1, 3))
    mortal = await nursery.birth(fate)
    for _ in range(MOST_ROUNDS):
        await rig.say(f"s{chance.randrange(5)}", times=chance.randint(1, 10))
        await asyncio.sleep(chance.uniform(0, 0.03))
        if not mortal.alive:
            break
    await mortal.death()
    await rig.say("s0", times=3)
    rig.start()
    await small_bus.check()
