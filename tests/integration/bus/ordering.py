"""What every adapter of the bus must do about the order of a subject's events; part of the conformance suite."""

import random
from uuid import UUID

import pytest

from dataaggregator.bus import parked, verdict
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection
from dataaggregator.errors import Invalid
from tests.integration.bus.rig import LISTENER, ORDERLY, SPEAKER, Rig, eventually


class OrderConformance:
    """The sequences of subjects, in an adapter that `BusConformance` is told of."""

    async def test_an_ordered_handler_waits_for_the_gap_to_close(self, rig: Rig) -> None:
        events = await rig.say(times=5)
        await self._hold_back(rig, events[:2])
        rig.start()
        await eventually(lambda: rig.value(f"SELECT count(*) = 3 FROM {ORDERLY}.retries"))
        await eventually(lambda: rig.value(f"SELECT count(*) = 3 FROM {LISTENER}.effects"))
        assert await rig.effects(ORDERLY) == []
        await self._release(rig, events[1:2])
        await self._release(rig, events[:1])
        await rig.settled()
        assert [effect["sequence"] for effect in await rig.effects(ORDERLY)] == [1, 2, 3, 4, 5]

    async def test_an_ordered_handler_ignores_what_is_older(self, rig: Rig) -> None:
        rig.start()
        await rig.say(times=3)
        await rig.settled()
        await rig.execute(f"UPDATE {SPEAKER}.outbox SET published_at = NULL, id = gen_random_uuid()")
        await rig.settled()
        assert [effect["sequence"] for effect in await rig.effects(ORDERLY)] == [1, 2, 3]
        assert len(await rig.effects(LISTENER)) == 6

    async def test_what_waited_behind_a_parked_event_follows_its_replay(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verdict, "MOST_GAP_TRIES", 3)
        monkeypatch.setattr(verdict, "FIRST_GAP_PAUSE_SECONDS", 0.01)
        broken = True

        async def refuse(event: Event, tx: Connection) -> None:
            if broken and event.sequence == 2:
                raise Invalid("not-found", "no")

        rig.hooks[ORDERLY] = refuse
        rig.start()
        events = await rig.say(times=6)
        await rig.settled()
        waiting = await rig.rows(f"SELECT code FROM {ORDERLY}.parked ORDER BY sequence")
        assert [row["code"] for row in waiting] == ["not-found", *["sequence-gap"] * 4]
        broken = False
        async with rig.database.platform() as tx:
            await parked.replay(tx, ORDERLY, events[1])
        await eventually(lambda: rig.value(f"SELECT count(*) = 6 FROM {ORDERLY}.effects"))
        assert [effect["sequence"] for effect in await rig.effects(ORDERLY)] == [1, 2, 3, 4, 5, 6]
        assert await rig.value(f"SELECT count(*) FROM {ORDERLY}.parked") == 0

    async def test_a_thousand_doubled_and_shuffled_events_are_each_applied_once_and_in_order(
        self, rig: Rig, dice: random.Random
    ) -> None:
        events: list[UUID] = []
        for _ in range(100):
            events += await rig.say(f"s{dice.randrange(40)}", times=10)
        await self._hold_back(rig, events)
        rig.start()
        order = events + dice.sample(events, 100)
        dice.shuffle(order)
        for begin in range(0, len(order), 110):
            await self._release(rig, order[begin : begin + 110])
        await rig.settled()
        for schema in (LISTENER, ORDERLY):
            effects = await rig.effects(schema)
            assert {effect["event_id"] for effect in effects} == set(events), "I3: each event is applied"
            assert len(effects) == len(events), "I3: and applied once"
        for subject in {effect["subject"] for effect in effects}:
            found = [effect["sequence"] for effect in effects if effect["subject"] == subject]
            assert found == list(range(1, len(found) + 1)), "I4: versions without holes"
        assert await rig.value(f"SELECT count(*) FROM {ORDERLY}.parked") == 0

    # Isolation

    async def _hold_back(self, rig: Rig, events: list[UUID]) -> None:
        await rig.execute(f"UPDATE {SPEAKER}.outbox SET published_at = now() WHERE id = ANY($1)", events)

    async def _release(self, rig: Rig, events: list[UUID]) -> None:
        """Publish these, also if they were before, and wait until that is done."""
        await rig.execute(f"UPDATE {SPEAKER}.outbox SET published_at = NULL WHERE id = ANY($1)", events)

        async def published() -> bool:
            return bool(await rig.value(f"SELECT bool_and(published_at IS NOT NULL) FROM {SPEAKER}.outbox"))

        await eventually(published)
