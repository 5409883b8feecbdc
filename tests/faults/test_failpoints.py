"""The run process is killed at each step of the loading protocol, once; the next attempt ends the run rightly."""

import asyncio
import random

import pytest

from dataaggregator.dataplane.failpoints import KILLS, VARIABLE
from dataaggregator.settings import Settings
from services.executor.domain import Status
from tests.faults import invariants
from tests.faults.at_rest import check_place
from tests.faults.invariants import Loaded
from tests.faults.rows import MODES, TABLE, Files, Warehouse, WriteMode, definition
from tests.integration.executor.place import open_place

pytestmark = pytest.mark.faults

OLD, NEW = range(1, 201), range(101, 20_101)


@pytest.mark.tries(1, 20)
@pytest.mark.parametrize("failpoint", sorted(KILLS))
async def test_a_run_process_killed_at_a_failpoint_is_followed_by_an_attempt_that_ends_rightly(
    settings: Settings, warehouse: Warehouse, files: Files, failpoint: str, chance: random.Random
) -> None:
    await _killed(settings, warehouse, files, failpoint, chance.choice(MODES))


@pytest.mark.tries(1, 10)
@pytest.mark.parametrize("write", ["swap", "deletes"])
@pytest.mark.parametrize("failpoint", ["load.before_commit", "load.after_commit"])
async def test_a_swap_or_deletes_killed_around_the_commit_are_done_once(
    settings: Settings, warehouse: Warehouse, files: Files, failpoint: str, write: WriteMode
) -> None:
    await _killed(settings, warehouse, files, failpoint, write)


async def _killed(settings: Settings, warehouse: Warehouse, files: Files, failpoint: str, write: WriteMode) -> None:
    """The first run process dies at the failpoint; the run ends rightly all the same."""
    old, new = files.write("old", OLD), files.write("new", NEW)
    await warehouse.fill(TABLE, write, old)
    files.show(new)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(VARIABLE, failpoint)
        async with open_place(settings, working=True) as place:
            await invariants.first_run_process()
            environment.delenv(VARIABLE)
            run = await place.queue(definition=definition(place, files.folder, warehouse.url, write))
            ended = await place.ended(run.run_id)
            assert ended.status is Status.SUCCEEDED, await place.error_detail(run.run_id)
            assert ended.lost == 1, "the failpoint was not passed"
            oracle = await warehouse.make_oracle(TABLE, write, old, new)
            await check_place(place, warehouse, Loaded(TABLE, oracle, str(run.run_id)))


@pytest.mark.tries(2, 60)
async def test_a_run_process_killed_at_random_is_followed_by_an_attempt_that_ends_rightly(
    settings: Settings, warehouse: Warehouse, files: Files, chance: random.Random
) -> None:
    write, rows = chance.choice(MODES), files.write("new", NEW)
    files.show(rows)
    async with open_place(settings, working=True) as place:
        run = await place.queue(definition=definition(place, files.folder, warehouse.url, write))
        await asyncio.sleep(chance.uniform(0, 1.5))
        for pid in invariants.own_run_processes():
            invariants.kill_if_alive(pid)
        ended = await place.ended(run.run_id)
        assert ended.status is Status.SUCCEEDED, await place.error_detail(run.run_id)
        oracle = await warehouse.make_oracle(TABLE, write, files.write("nothing before", range(0)), rows)
        await check_place(place, warehouse, Loaded(TABLE, oracle, str(run.run_id)))
