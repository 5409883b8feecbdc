"""A message that cannot be handled is set aside after ten tries at most, and nobody else with it."""

import random
from collections.abc import Callable

import pytest

from dataaggregator.bus import verdict
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection as Transaction
from dataaggregator.errors import Invalid, Permanent, Transient
from tests.faults.at_rest import SmallBus
from tests.faults.mortal import POISON, Fate, Mortal, Nursery
from tests.integration.bus.rig import LISTENER, ORDERLY, Rig, eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

MOST_TRIES = 10
INNOCENT = 5


def kill() -> Exception:
    """Stands for what ends the process itself."""
    raise NotImplementedError


KINDS: dict[str, Callable[[], Exception]] = {
    "ends the process": kill,
    "is refused": lambda: Invalid("not-found", "no"),
    "is refused elsewhere": lambda: Permanent("source-refused", "no"),
    "does not pass": lambda: Transient("database-busy", "not now"),
    "meets a bug": lambda: ZeroDivisionError("a bug"),
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten tries in a moment instead of four minutes."""
    monkeypatch.setattr(verdict, "FIRST_PAUSE_SECONDS", 0.002)


@pytest.mark.tries(5, 100)
async def test_a_poison_message_is_set_aside_and_no_innocent_one(
    rig: Rig, small_bus: SmallBus, nursery: Nursery, seed: int, chance: random.Random
) -> None:
    kind = list(KINDS)[seed % len(KINDS)]
    before = [event for n in range(INNOCENT) for event in await rig.say(f"s{n}", times=chance.randint(1, 10))]
    (poison,) = await rig.say(POISON)
    after = [event for n in range(INNOCENT) for event in await rig.say(f"s{n}", times=chance.randint(1, 10))]
    if KINDS[kind] is kill:
        tries = await lives_lost(rig, nursery)
    else:
        tries = await failures(rig, KINDS[kind])
    assert tries <= MOST_TRIES
    assert await rig.value(f"SELECT tries FROM {LISTENER}.parked") <= MOST_TRIES
    await small_bus.check()
    parked = f"SELECT event_id FROM {LISTENER}.parked UNION ALL SELECT event_id FROM {ORDERLY}.parked"
    assert [row["event_id"] for row in await rig.rows(parked)] == [poison]
    assert {effect["event_id"] for effect in await rig.effects(LISTENER)} == {*before, *after}


async def is_parked(rig: Rig) -> bool:
    return bool(await rig.value(f"SELECT count(*) FROM {LISTENER}.parked"))


async def lives_lost(rig: Rig, nursery: Nursery) -> int:
    """How many processes die of it, one after the other, until it is set aside."""
    for lost in range(MOST_TRIES + 2):
        mortal = await nursery.birth(Fate())

        async def over(mortal: Mortal = mortal) -> bool:
            return not mortal.alive or await is_parked(rig)

        await eventually(over, 60)
        if mortal.alive:
            await mortal.end()
            rig.start()
            return lost
        await mortal.death()
    raise AssertionError(f"{lost} processes died of it")


async def failures(rig: Rig, make: Callable[[], Exception]) -> int:
    """How often its handler is called in vain until it is set aside."""
    tries = 0

    async def fail(event: Event, _: Transaction) -> None:
        nonlocal tries
        if event.subject == POISON:
            tries += 1
            raise make()

    rig.hooks[LISTENER] = fail
    rig.start()
    await eventually(lambda: is_parked(rig), 60)
    return tries
