"""Which executor takes which run: one that has all its labels; and what becomes of a run that none can take."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.db import Database
from services.executor.commands import Attempts
from services.executor.lease import LeaseTimes
from services.executor.limiting import WorkspaceLimits
from services.executor.presence import Announcer
from services.executor.reaper import Reaper, ReaperTimes
from services.executor.room import Memory, Room
from services.executor.store import executors
from tests.integration.control import until
from tests.integration.executor.conftest import OWNER, Queue
from tests.integration.executor.place import a_definition

GPU = ["gpu", "region=eu"]


def asking(labels: list[str]) -> dict[str, Any]:
    return a_definition(runs_on=labels)


def one_with(database: Database, *labels: str) -> Attempts:
    return Attempts(database, f"with-{len(labels)}", 60.0, labels)


async def taken(attempts: Attempts) -> list[UUID]:
    return [one.run.run_id for one in (await attempts.look(OWNER, 9, ())).begun]


def announcer(database: Database, name: str, *labels: str, alive_seconds: float = 60.0) -> Announcer:
    room = Room(3, Memory(1, 1, 1))
    return Announcer(
        database, WorkspaceLimits(database, None), (name, labels), room, LeaseTimes(alive_seconds, 15.0, 45.0)
    )


async def test_only_an_executor_with_all_labels_takes_the_run(queue: Queue, database: Database) -> None:
    asked = await queue(definition=asking(GPU))
    plain = await queue()
    assert await taken(one_with(database, "gpu")) == [plain.run_id]
    assert await taken(one_with(database)) == []
    assert await taken(one_with(database, "big", "region=eu", "gpu")) == [asked.run_id]


async def test_what_nobody_can_take_keeps_nobody_waiting(queue: Queue, database: Database) -> None:
    for _ in range(30):
        await queue(definition=asking(GPU), priority="high")
    plain = await queue(priority="low")
    seen = await one_with(database).look(OWNER, 9, ())
    assert [one.run.run_id for one in seen.begun] == [plain.run_id]
    assert seen.due_in_seconds is None, "it would look again and again for what it may not take"


async def test_an_executor_is_shown_while_it_is_alive_and_takes_leave_when_it_stops(database: Database) -> None:
    one = announcer(database, "one", *GPU)
    running = asyncio.create_task(one.run())

    async def there() -> list[Any]:
        async with database.platform() as tx:
            return [found for found in await executors.list_all(tx) if found.name == "one"]

    found = await until(there, "the executor")
    assert (found[0].labels, found[0].slots, found[0].used, found[0].alive) == (tuple(GPU), 3, 0, True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await there() == []


async def test_a_run_that_no_executor_alive_can_take_is_told_and_ends_by_the_limit_of_the_queue(
    queue: Queue, database: Database, workspace: UUID, run_now: Any
) -> None:
    asked = await queue(definition=asking(GPU))
    await announcer(database, "plain").announce()
    await announcer(database, "dead", *GPU, alive_seconds=-1.0).announce()
    async with database.platform() as tx:
        assert [(one.labels, one.runs) for one in await executors.list_unclaimed(tx, 9)] == [(tuple(GPU), 1)]
        assert [one.run_id for one in await executors.list_held(tx, workspace, [asked.run_id])] == [asked.run_id]
    await announcer(database, "alive", *GPU, "more").announce()
    async with database.platform() as tx:
        assert await executors.list_unclaimed(tx, 9) == []
        assert await executors.list_held(tx, workspace, [asked.run_id]) == []
    await Reaper(database, ReaperTimes(0.0, 0.0)).time_out_waiting()
    assert (await run_now(asked.run_id)).status == "timed_out"


@pytest.fixture(autouse=True)
async def nobody_else(database: Database) -> None:
    async with database.platform() as tx:
        await tx.execute("DELETE FROM executor.executors")
