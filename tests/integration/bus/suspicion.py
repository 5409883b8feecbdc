"""What every adapter of the bus must do about events that may have ended a process; part of the conformance suite."""

import asyncio

from dataaggregator.bus import inbox
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection
from tests.integration.bus.rig import LISTENER, ORDERLY, Rig, an_event, eventually

LOOKS_WITHIN_SECONDS = 1.0


class SuspicionConformance:
    """Suspects, in an adapter that `BusConformance` is told of."""

    async def test_while_one_is_tried_no_other_services_one_is_tried_in_the_process(self, rig: Rig) -> None:
        event, began, go_on = an_event(), asyncio.Event(), asyncio.Event()

        async def hang(_: Event, __: Connection) -> None:
            began.set()
            await go_on.wait()

        rig.hooks[LISTENER] = hang
        async with rig.database.platform() as tx:
            for schema in (LISTENER, ORDERLY):
                await inbox.suspect(tx, schema, event, tries=1)
        rig.start(LISTENER)
        await asyncio.wait_for(began.wait(), 20)
        rig.start(ORDERLY)
        ended, _ = await asyncio.wait(rig.tasks, timeout=LOOKS_WITHIN_SECONDS)
        assert not ended
        assert await rig.value(f"SELECT (tries, unjudged) = (1, 1) FROM {ORDERLY}.retries")
        go_on.set()
        await eventually(lambda: rig.value(f"SELECT count(*) = 1 FROM {ORDERLY}.effects"))
        assert len(await rig.effects(LISTENER)) == 1
