"""How many are at work at once, with a connector and of a workspace: never more, and nobody else has to wait for it."""

import asyncio
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.db import Database
from dataaggregator.ids import new_id
from services.executor import commands, limiting
from services.executor.commands import AttemptEnd, Attempts, run_error
from services.executor.domain import End, Ending, Status
from services.executor.limiting import WorkspaceLimits
from services.executor.reaper import Reaper, ReaperTimes
from services.executor.store import claims, lanes, runs
from services.executor.store.lanes import Limit, Stuck
from services.executor.store.runs import Run
from tests.integration.control import until
from tests.integration.executor.conftest import OWNER, Queue
from tests.integration.executor.place import a_definition, a_run
from tests.integration.executor.test_leases import an_outcome, expire


def using(*connectors: UUID) -> dict[str, Any]:
    """A definition that reads from the first and writes to the others."""
    part = {"connector_name": "c", "connector_type": "postgres", "stream": "public.a"}
    loaded = [{**part, "connector_id": str(id_), "input": "a"} for id_ in connectors[1:] or (new_id(),)]
    return a_definition(sources={"a": {**part, "connector_id": str(connectors[0])}}, destinations=loaded)


class Limits:
    """Connectors with a limit, of one workspace."""

    def __init__(self, database: Database, workspace: UUID) -> None:
        self._database = database
        self._workspace = workspace
        self._told = 0

    async def connector(self, most: int | None, connector: UUID | None = None, told: int | None = None) -> UUID:
        self._told = self._told + 1 if told is None else told
        limit = Limit(connector or new_id(), self._workspace, "connector", "erp", most, most, self._told)
        async with self._database.transaction(self._workspace) as tx:
            await limiting.change_connector(tx, limit)
        return limit.holder


@pytest.fixture
def limits(database: Database, workspace: UUID) -> Limits:
    return Limits(database, workspace)


async def taken(attempts: Attempts, most: int = 9) -> list[Run]:
    return [one.run for one in (await attempts.look(OWNER, most, ())).begun]


async def end(attempts: Attempts, run: Run, how: End = End.SUCCEEDED) -> None:
    error = None if how is End.SUCCEEDED else run_error("x", "X.", retryable=True)
    outcome = an_outcome(run) if how is End.SUCCEEDED else None
    assert await attempts.record(run, AttemptEnd(how, error, outcome)) is not None


def a_reaper(database: Database) -> Reaper:
    return Reaper(database, ReaperTimes(heartbeat_seconds=0.0, queue_limit_seconds=3600.0))


async def held(database: Database) -> int:
    async with database.platform() as tx:
        found: int = await tx.fetchval("SELECT count(*) FROM executor.lanes WHERE run_id IS NOT NULL")
    return found


async def test_however_many_claim_at_once_a_connector_has_no_more_runs_than_it_bears(
    database: Database, queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    connector = await limits.connector(3)
    left = {(await queue(definition=using(connector))).run_id for _ in range(24)}
    seen: list[int] = []

    async def watch() -> None:
        while True:
            async with database.platform() as tx:
                seen.append(
                    await tx.fetchval(
                        "SELECT count(*) FROM executor.runs WHERE status = 'running' AND $1 = ANY(needs)", connector
                    )
                )

    async def work() -> None:
        while left:
            for run in await taken(attempts, 4):
                await end(attempts, run)
                left.discard(run.run_id)

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(60):
        await asyncio.gather(*(work() for _ in range(6)))
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    assert max(seen) <= 3
    assert await held(database) == 0


async def test_of_twenty_claims_at_the_same_moment_as_many_succeed_as_there_are_lanes(
    database: Database, queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    connector = await limits.connector(4)
    for _ in range(20):
        await queue(definition=using(connector))
    looks = await asyncio.gather(*(taken(attempts, 2) for _ in range(20)))
    begun = [run for one in looks for run in one]
    begun += await taken(attempts)
    assert len(begun) == len({run.run_id for run in begun}) == 4 == await held(database)


async def test_a_run_that_waits_for_a_connector_keeps_nobody_behind_it_waiting(
    queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    connector = await limits.connector(1)
    for _ in range(60):
        await queue(definition=using(connector), priority="high")
    [first] = await taken(attempts, 1)
    other = await queue(priority="low")
    assert [run.run_id for run in await taken(attempts, 1)] == [other.run_id]
    assert (await attempts.look(OWNER, 1, ())).due_in_seconds is None, "it would look again and again"
    await end(attempts, first)
    assert len(await taken(attempts)) == 1


async def test_a_lane_that_is_let_go_is_for_the_most_urgent_that_waits_for_it(
    queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    connector = await limits.connector(1)
    asked = [await queue(definition=using(connector), priority=priority) for priority in ("normal", "low", "high")]
    order = []
    while run := await attempts.claim(OWNER):
        assert await taken(attempts) == []
        order.append(run.run_id)
        await end(attempts, run)
    assert order == [asked[2].run_id, asked[0].run_id, asked[1].run_id]


@pytest.mark.parametrize("how", [End.SUCCEEDED, End.FAILED, End.HANDED_BACK, End.CANCELLED])
async def test_with_its_attempt_a_run_lets_go_of_its_lanes(
    how: End, database: Database, queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    await queue(definition=using(await limits.connector(1), await limits.connector(2)))
    [run] = await taken(attempts)
    assert await held(database) == 2
    await end(attempts, run, how)
    assert await held(database) == 0


async def test_the_lanes_of_a_run_whose_executor_died_are_let_go_when_its_lease_ends(
    database: Database, queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    connector = await limits.connector(1)
    await queue(definition=using(connector))
    [lost] = await taken(attempts)
    waits = await queue(definition=using(connector), priority="high")
    assert await taken(attempts) == []
    await expire(database, lost)
    await a_reaper(database).reap_expired()
    assert [run.run_id for run in await taken(attempts, 1)] == [waits.run_id]


async def test_a_run_takes_a_lane_of_each_connector_or_of_none(
    database: Database, queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    free, full = await limits.connector(1), await limits.connector(1)
    await queue(definition=using(full))
    assert len(await taken(attempts)) == 1
    both = await queue(definition=using(free, full), priority="high")
    one = await queue(definition=using(free))
    assert [run.run_id for run in await taken(attempts)] == [one.run_id]
    assert await held(database) == 2
    assert both.run_id != one.run_id


async def test_a_limit_counts_those_who_are_at_work_when_it_is_set(
    queue: Queue, attempts: Attempts, limits: Limits, database: Database
) -> None:
    connector = new_id()
    for _ in range(5):
        await queue(definition=using(connector))
    at_work = await taken(attempts, 4)
    await limits.connector(2, connector)
    for number, run in enumerate(at_work):
        assert len(await taken(attempts)) == 0, number
        await end(attempts, run)
        if number >= 2:
            break
    await a_reaper(database).bring_back()
    assert len(await taken(attempts)) == 1
    assert await held(database) == 2


async def test_a_limit_that_is_raised_or_taken_away_lets_in_who_waited(
    queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    connector = await limits.connector(1)
    for _ in range(6):
        await queue(definition=using(connector))
    assert [len(await taken(attempts)), len(await taken(attempts))] == [1, 0]
    await limits.connector(3, connector)
    assert [len(await taken(attempts)), len(await taken(attempts))] == [2, 0]
    await limits.connector(None, connector)
    assert len(await taken(attempts)) == 3


async def test_what_is_told_of_a_connector_too_late_changes_nothing(
    queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    connector = await limits.connector(1, told=7)
    await limits.connector(None, connector, told=6)
    for _ in range(2):
        await queue(definition=using(connector))
    assert len(await taken(attempts)) == 1


async def test_a_claim_under_way_is_waited_for_before_a_limit_counts(
    database: Database, queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    """It read that there is none: what it takes counts, or there would be one too many."""
    connector = new_id()
    for _ in range(2):
        await queue(definition=using(connector))
    async with database.platform() as tx:
        assert len(await claims.claim(tx, claims.Claimer(OWNER, "test", 60.0), 1)) == 1
        setting = asyncio.create_task(limits.connector(1, connector))

        async def waits_or_is_done() -> bool:
            waiting = (
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'executor.limits'::regclass)"
            )
            return setting.done() or bool(await tx.fetchval(waiting))

        await until(waits_or_is_done, "the one who sets a limit")
    await setting
    assert await held(database) == 1
    assert await taken(attempts) == []


async def test_once_those_who_were_too_many_have_ended_a_limit_lets_others_in(
    queue: Queue, attempts: Attempts, limits: Limits
) -> None:
    connector = new_id()
    for _ in range(3):
        await queue(definition=using(connector))
    at_work = await taken(attempts, 2)
    await limits.connector(1, connector)
    for run in at_work:
        await end(attempts, run)
    assert len(await taken(attempts)) == 1


async def test_a_run_that_only_asks_how_it_has_ended_needs_no_lane(
    database: Database, queue: Queue, attempts: Attempts, limits: Limits, workspace: UUID
) -> None:
    connector = await limits.connector(1)
    for _ in range(2):
        await queue(definition=using(connector))
    assert len(await taken(attempts)) == 1
    assert await taken(attempts) == []
    async with database.transaction(workspace) as tx:
        waiting = await tx.fetchval("SELECT run_id FROM executor.runs WHERE status = 'queued'")
        await runs.save_ending(tx, waiting, Ending(Status.CANCELLED))
    assert [run.run_id for run in await taken(attempts)] == [waiting]


async def test_one_put_aside_in_the_moment_in_which_a_lane_is_let_go_is_brought_back(
    database: Database, queue: Queue, attempts: Attempts, limits: Limits, workspace: UUID
) -> None:
    connector = await limits.connector(1)
    asked = await queue(definition=using(connector))
    async with database.transaction(workspace) as tx:
        await tx.execute("UPDATE executor.runs SET waits_for = $1", connector)
    assert await taken(attempts) == []
    await a_reaper(database).bring_back()
    assert [run.run_id for run in await taken(attempts)] == [asked.run_id]


async def test_nobody_is_put_aside_for_a_lane_that_is_open_again(
    database: Database, queue: Queue, limits: Limits, workspace: UUID
) -> None:
    connector = await limits.connector(1)
    asked = await queue(definition=using(connector))
    async with database.transaction(workspace) as tx:
        assert await lanes.park(tx, Stuck([asked.run_id], [connector])) == 0


async def test_a_workspace_has_no_more_at_work_than_its_limit_and_others_are_not_concerned(
    database: Database, queue: Queue, attempts: Attempts, workspace: UUID
) -> None:
    one = WorkspaceLimits(database, 2)
    async with database.transaction(workspace) as tx:
        await one.expect(tx, workspace)
    for _ in range(4):
        await queue()
    assert [len(await taken(attempts)), len(await taken(attempts))] == [2, 0]
    other, asked = new_id(), a_run()
    async with database.transaction(other) as tx:
        await tx.execute(
            """INSERT INTO executor.runs (run_id, workspace_id, pipeline_id, pipeline_name, asked, queued_at, needs)
               VALUES ($1, $2, $3, 'a', $4, now(), ARRAY[$2::uuid])""",
            asked.run_id,
            other,
            asked.pipeline_id,
            asked.model_dump(mode="json"),
        )
    assert [run.run_id for run in await taken(attempts)] == [asked.run_id]


async def test_the_settings_limit_counts_from_the_start_for_the_workspaces_there_are(
    database: Database, queue: Queue, attempts: Attempts
) -> None:
    for _ in range(3):
        await queue()
    assert len(await taken(attempts, 1)) == 1
    await WorkspaceLimits(database, 1).adopt()
    assert await taken(attempts) == []
    await WorkspaceLimits(database, None).adopt()
    assert len(await taken(attempts)) == 2


async def test_a_workspace_whose_first_run_is_not_accepted_has_its_limit_with_the_next(
    database: Database, workspace: UUID
) -> None:
    one = WorkspaceLimits(database, 2)
    with suppress(ZeroDivisionError):
        async with database.transaction(workspace) as tx:
            await one.expect(tx, workspace)
            raise ZeroDivisionError
    async with database.transaction(workspace) as tx:
        await one.expect(tx, workspace)
        assert await lanes.find_limit(tx, workspace) is not None


@pytest.mark.parametrize("definition", [None, 7, {"sources": [1], "destinations": 2, "runs_on": 3, "replicate": "x"}])
async def test_a_run_whose_definition_nobody_understands_is_accepted_and_left_to_its_attempt(
    definition: Any, database: Database, attempts: Attempts, workspace: UUID
) -> None:
    asked = a_run().model_dump(mode="json") | {"definition": definition}
    async with database.transaction(workspace) as tx:
        await commands.accept(tx, workspace, UUID(asked["run_id"]), asked, None)
    assert [str(run.run_id) for run in await taken(attempts)] == [asked["run_id"]]
