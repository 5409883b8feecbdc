"""Several runs of a pipeline side by side: as many as it says, each in a lane of its own, by a constraint."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from asyncpg import UniqueViolationError

from dataaggregator.clock import SystemClock
from dataaggregator.contracts.run import RunSucceeded
from dataaggregator.db import Database
from services.scheduler.runs import mirror
from services.scheduler.runs.domain import Fact
from tests.integration.control import WORKSPACE, Control, until

pytestmark = pytest.mark.usefixtures("warehouse")
INCREMENTAL = {"flights": {"connector": "warehouse", "stream": "a", "read": "incremental", "cursor_field": "at"}}


async def ask(control: Control, **wish: Any) -> dict[str, Any]:
    run: dict[str, Any] = await control.good("POST", "/api/pipelines/copy/runs", wish)
    return run


async def lane(control: Control, run: dict[str, Any]) -> int:
    """Once it is handed over."""

    async def look() -> Any:
        return next((queued for queued in control.executor.queued if str(queued.run_id) == run["id"]), None)

    found: int = (await until(look, "run.queued")).lane
    return found


async def end(control: Control, run: dict[str, Any]) -> None:
    await control.start(run)
    await control.succeed(run)
    await control.run_is(run["id"], "succeeded")


def handed_over(control: Control) -> set[str]:
    return {str(queued.run_id) for queued in control.executor.queued}


async def test_as_many_run_side_by_side_as_the_pipeline_says(control: Control) -> None:
    await control.pipeline(concurrency=2)
    first, second, third = [await ask(control) for _ in range(3)]
    assert [await lane(control, first), await lane(control, second)] == [1, 2]
    await end(control, second)
    assert await lane(control, third) == 2
    assert (await control.good("GET", f"/api/runs/{first['id']}"))["status"] == "queued"


async def test_however_many_ask_at_once_no_lane_is_given_twice(control: Control, database: Database) -> None:
    await control.pipeline(concurrency=3)
    runs = await asyncio.gather(*(ask(control) for _ in range(8)))
    async with database.platform() as tx:
        lanes = await tx.fetch("SELECT lane FROM scheduler.runs WHERE handed_over_at IS NOT NULL ORDER BY lane")
    assert [row["lane"] for row in lanes] == [1, 2, 3]
    left = {run["id"]: run for run in runs}

    async def begun() -> str | None:
        return next(iter(handed_over(control) & left.keys()), None)

    while left:
        await end(control, left.pop(await until(begun, "run.queued")))


async def test_a_second_run_in_a_lane_is_refused_by_the_database(control: Control, database: Database) -> None:
    await control.pipeline(concurrency=2)
    for _ in range(2):
        await ask(control)
    with pytest.raises(UniqueViolationError, match="runs_one_handed_over"):
        async with database.platform() as tx:
            await tx.execute("UPDATE scheduler.runs SET lane = 1")


async def test_a_run_that_must_be_alone_waits_for_all_and_is_not_overtaken(control: Control) -> None:
    await control.pipeline(concurrency=2)
    beside = [await ask(control) for _ in range(2)]
    await control.good("PATCH", "/api/pipelines/copy", {"concurrency": 1, "sources": INCREMENTAL})
    alone = await ask(control)
    await control.good(
        "PATCH", "/api/pipelines/copy", {"concurrency": 2, "sources": {"flights": {"read": None, "cursor_field": None}}}
    )
    await end(control, beside[0])
    later = await ask(control)
    assert not handed_over(control) & {alone["id"], later["id"]}
    await end(control, beside[1])
    assert await lane(control, alone) == 0
    assert later["id"] not in handed_over(control)
    await end(control, alone)
    assert await lane(control, later) == 1


async def test_lanes_that_become_free_together_are_given_once_each_though_a_waiting_run_cannot_be_read(
    control: Control, database: Database
) -> None:
    await control.pipeline(concurrency=2)
    first, second, third, fourth, fifth = [await ask(control) for _ in range(5)]
    async with database.platform() as tx:
        await tx.execute("UPDATE scheduler.runs SET definition = '{}' WHERE id = $1", UUID(third["id"]))
    for run in (first, second):
        await control.start(run)
        await control.run_is(run["id"], "running")
    async with database.transaction(WORKSPACE) as tx:
        over = [
            RunSucceeded(run_id=run["id"], pipeline_id=run["pipeline_id"], attempt=1, finished_at=SystemClock().now())
            for run in (first, second)
        ]
        await mirror.ended(tx, WORKSPACE, Fact.SUCCEEDED, over)
    assert {await lane(control, fourth), await lane(control, fifth)} == {1, 2}
    assert (await control.run_is(third["id"], "skipped"))["error"]["code"] == "definition-unreadable"
    told = Counter(str(queued.run_id) for queued in control.executor.queued)
    assert told == {run["id"]: 1 for run in (first, second, fourth, fifth)}


async def test_more_lanes_are_used_at_once(control: Control) -> None:
    await control.pipeline(concurrency=2)
    runs = [await ask(control) for _ in range(4)]
    await control.good("PATCH", "/api/pipelines/copy", {"concurrency": 3})
    assert [await lane(control, run) for run in runs[:3]] == [1, 2, 3]
    assert runs[3]["id"] not in handed_over(control)


async def test_overlap_begins_where_no_lane_is_free(control: Control) -> None:
    await control.pipeline(concurrency=2, overlap="skip")
    for _ in range(2):
        await ask(control)
    refused = await control.call("POST", "/api/pipelines/copy/runs")
    assert (refused.status, refused.json["code"]) == (409, "run-overlaps")


async def test_a_newer_run_takes_the_place_of_one_and_not_of_all(control: Control, database: Database) -> None:
    await control.pipeline(concurrency=2, overlap="cancel_running")
    first, second, third, fourth = [await ask(control) for _ in range(4)]
    async with database.platform() as tx:
        asked = await tx.fetch("SELECT id FROM scheduler.runs WHERE cancel_requested_at IS NOT NULL")
    assert [row["id"] for row in asked] == [UUID(first["id"])]
    assert (await control.good("GET", f"/api/runs/{third['id']}"))["error"]["code"] == "run-superseded"
    await end(control, first)
    assert await lane(control, fourth) == 1
    assert (await control.good("GET", f"/api/runs/{second['id']}"))["cancel_requested_at"] is None
