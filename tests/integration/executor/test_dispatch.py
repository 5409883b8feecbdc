"""Who comes next: a workspace's own backlog delays nobody else, and a claim costs the same however many runs wait."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.clock import SystemClock
from dataaggregator.db import Database
from dataaggregator.ids import new_id
from services.executor import commands, limiting
from services.executor.commands import Attempts
from services.executor.store import claims
from services.executor.store.lanes import Limit
from services.executor.store.runs import Run
from tests.integration.executor.conftest import OWNER
from tests.integration.executor.place import a_run
from tests.integration.executor.plans import nodes_of

BACKLOG = 10_000


@pytest.fixture
async def backlog(database: Database, workspace: UUID) -> UUID:
    """A workspace with many runs that have waited for an hour."""
    async with database.transaction(workspace) as tx:
        asked = a_run()
        await tx.execute(
            """INSERT INTO executor.runs (run_id, workspace_id, pipeline_id, pipeline_name, asked, queued_at, due_at)
               SELECT gen_random_uuid(), $1, gen_random_uuid(), 'copy-a', $2, now(), now() - interval '1 hour'
               FROM generate_series(1, $3)""",
            workspace,
            asked.model_dump(mode="json"),
            BACKLOG,
        )
    return workspace


async def queued_by(database: Database, workspace: UUID, **changes: Any) -> UUID:
    queued = a_run(**changes)
    async with database.transaction(workspace) as tx:
        await commands.accept(tx, workspace, queued.run_id, queued.model_dump(mode="json"), None)
    return queued.run_id


async def taken(attempts: Attempts, most: int) -> list[Run]:
    return [one.run for one in (await attempts.look(OWNER, most, ())).begun]


async def test_one_run_is_begun_at_once_beside_ten_thousand_of_another_workspace(
    backlog: UUID, database: Database, attempts: Attempts
) -> None:
    busy = await taken(attempts, 4)
    assert {run.workspace_id for run in busy} == {backlog}
    one = await queued_by(database, new_id())
    assert (await taken(attempts, 1))[0].run_id == one
    assert [run.workspace_id for run in await taken(attempts, 1)] == [backlog]


async def test_the_workspaces_that_wait_share_what_is_free(database: Database, attempts: Attempts) -> None:
    large, small = new_id(), new_id()
    for workspace, runs in ((large, 9), (small, 3)):
        for _ in range(runs):
            await queued_by(database, workspace)
    first = [run.workspace_id for run in await taken(attempts, 4)]
    assert first.count(large) == first.count(small) == 2
    rest = [run.workspace_id for run in await taken(attempts, 8)]
    assert [rest.count(large), rest.count(small)] == [7, 1]


async def test_within_a_workspace_they_come_in_the_order_in_which_they_are_due(
    database: Database, workspace: UUID, attempts: Attempts
) -> None:
    asked = [await queued_by(database, workspace) for _ in range(10)]
    assert sorted([run.run_id for run in await taken(attempts, 2)]) == sorted(asked[:2])


async def test_who_was_asked_for_first_comes_first_however_late_the_executors_heard_of_it(
    database: Database, workspace: UUID, attempts: Attempts
) -> None:
    await queued_by(database, workspace)
    earlier = await queued_by(database, workspace, queued_at=SystemClock().now() - timedelta(minutes=5))
    assert [run.run_id for run in await taken(attempts, 1)] == [earlier]


async def test_a_more_urgent_run_begins_before_what_its_workspace_has_waiting_and_before_nobody_elses(
    backlog: UUID, database: Database, attempts: Attempts
) -> None:
    low = await queued_by(database, backlog, priority="low")
    urgent = await queued_by(database, backlog, priority="high")
    other = await queued_by(database, new_id(), priority="low")
    assert sorted([run.run_id for run in await taken(attempts, 2)]) == sorted([urgent, other])
    async with database.platform() as tx:
        await tx.execute("DELETE FROM executor.runs WHERE priority = 2")
    assert (await taken(attempts, 1))[0].run_id == low


async def test_an_urgent_run_that_is_not_due_yet_keeps_nobody_waiting(
    database: Database, workspace: UUID, attempts: Attempts
) -> None:
    await queued_by(database, workspace, priority="high")
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET due_at = now() + interval '1 hour'")
    asked = await queued_by(database, workspace, priority="low")
    assert [run.run_id for run in await taken(attempts, 2)] == [asked]


async def test_workspaces_whose_runs_are_not_due_yet_take_no_turn(
    database: Database, workspace: UUID, attempts: Attempts
) -> None:
    await queued_by(database, workspace)
    assert len(await taken(attempts, 1)) == 1
    for _ in range(8):
        await queued_by(database, new_id())
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET due_at = now() + interval '1 hour' WHERE status = 'queued'")
    asked = await queued_by(database, workspace)
    assert [run.run_id for run in await taken(attempts, 1)] == [asked]


async def test_a_priority_of_another_version_is_a_normal_one(
    database: Database, workspace: UUID, attempts: Attempts
) -> None:
    asked = a_run().model_dump(mode="json") | {"priority": "at once"}
    async with database.transaction(workspace) as tx:
        await commands.accept(tx, workspace, UUID(asked["run_id"]), asked, None)
    urgent = await queued_by(database, workspace, priority="high")
    assert [run.run_id for run in await taken(attempts, 1)] == [urgent]


async def test_executors_that_claim_at_the_same_moment_take_different_runs(
    backlog: UUID, database: Database, attempts: Attempts
) -> None:
    others = [await queued_by(database, new_id()) for _ in range(3)]
    looks = await asyncio.gather(*(taken(attempts, 4) for _ in range(4)))
    ids = [run.run_id for one in looks for run in one]
    assert len(ids) == len(set(ids)) >= 8
    ids += [run.run_id for run in await taken(attempts, 8)]
    assert set(others) < set(ids)
    assert {run.workspace_id for run in await taken(attempts, 4)} == {backlog}


@pytest.mark.parametrize("limited", [False, True])
async def test_a_claim_under_way_is_passed_by_and_not_waited_for(
    limited: bool, database: Database, workspace: UUID, attempts: Attempts
) -> None:
    if limited:
        async with database.transaction(workspace) as tx:
            await limiting.change(tx, Limit(workspace, workspace, "workspace", "", 2, 2))
    asked = {await queued_by(database, workspace) for _ in range(2)}
    async with database.platform() as tx:
        [one] = await claims.claim(tx, claims.Claimer(OWNER, "other", 60.0), 1)
        async with asyncio.timeout(10):
            [other] = await taken(attempts, 1)
    assert {one.run.run_id, other.run_id} == asked


@pytest.mark.usefixtures("backlog")
async def test_what_a_claim_reads_does_not_grow_with_the_backlog(database: Database) -> None:
    """Rows by what the server says it has read: those it may take, never all that wait."""
    await queued_by(database, new_id())
    async with database.platform() as tx:
        await tx.execute("ANALYZE executor.runs")
        nodes = await nodes_of(tx, claims.CLAIM, OWNER, "test", timedelta(seconds=60), 4, [])
    scans = [node for node in nodes if "Scan" in node["Node Type"]]
    assert "runs" not in {node.get("Relation Name") for node in scans if node["Node Type"] == "Seq Scan"}
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) < BACKLOG / 50
