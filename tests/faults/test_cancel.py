"""A cancel at a random moment is obeyed within ten seconds; the destination is before or after, never half."""

import asyncio
import random
import time

import pytest

from dataaggregator.settings import Settings
from services.executor.domain import Status
from tests.faults.at_rest import check_place
from tests.faults.invariants import Loaded
from tests.faults.rows import MODES, TABLE, Files, Warehouse, definition
from tests.integration.executor.place import open_place

pytestmark = pytest.mark.faults

OLD, NEW = range(1, 201), range(101, 100_101)
OBEYED_WITHIN_SECONDS = 10.0


@pytest.mark.tries(10, 200)
async def test_a_cancel_at_any_moment_leaves_the_destination_before_or_after(
    settings: Settings, warehouse: Warehouse, files: Files, chance: random.Random
) -> None:
    write = chance.choice(MODES)
    old, new = files.write("old", OLD), files.write("new", NEW)
    await warehouse.fill(TABLE, write, old)
    files.show(new)
    async with open_place(settings, working=True) as place:
        run = await place.queue(definition=definition(place, files.folder, warehouse.url, write))
        await asyncio.sleep(chance.uniform(0, 3))
        began = time.monotonic()
        await place.cancel(run.run_id)
        ended = await place.ended(run.run_id, OBEYED_WITHIN_SECONDS)
        assert time.monotonic() - began < OBEYED_WITHIN_SECONDS
        assert ended.status in {Status.CANCELLED, Status.SUCCEEDED}, await place.error_detail(run.run_id)
        committed = ended.status is Status.SUCCEEDED
        oracle = await warehouse.make_oracle(TABLE, write, old, *([new] if committed else []))
        await check_place(place, warehouse, Loaded(TABLE, oracle, str(run.run_id) if committed else None))
