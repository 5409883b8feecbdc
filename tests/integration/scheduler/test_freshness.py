"""Pipelines that are late are told of once, whoever looks, and so is the end of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.run import RunSucceeded
from dataaggregator.db import Database
from dataaggregator.definition import Author, Edit
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from services.scheduler.freshness import Freshness
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.pipelines.domain import Pipeline
from services.scheduler.runs import mirror
from services.scheduler.runs.commands import RunCommands, Wish
from services.scheduler.runs.domain import Fact
from tests.integration.control import Control, a_pipeline, until

SOMEBODY = Author(None, "ada@example.org")
WORKSPACE = new_id()
HOURLY = {"every": "1h"}


@pytest.fixture
async def rivals(database_url: str, settings: Settings) -> AsyncIterator[list[Freshness]]:
    """Three schedulers, each with connections of its own."""
    databases = [Database(database_url, settings) for _ in range(3)]
    for database in databases:
        await database.open()
    yield [Freshness(database, settings) for database in databases]
    for database in databases:
        await database.close()


@pytest.fixture
async def commands(database: Database) -> PipelineCommands:
    async with database.transaction(WORKSPACE) as tx:
        await tx.execute(
            "INSERT INTO scheduler.connectors (id, workspace_id, name, type) VALUES ($1, $2, 'warehouse', 'postgres')",
            new_id(),
            WORKSPACE,
        )

    async def nobody_is_asked(*_: object) -> set[UUID]:
        raise AssertionError("no connector was to be deleted")

    return PipelineCommands(database, nobody_is_asked)


async def made(commands: PipelineCommands, name: str = "copy", hours_ago: float = 0, **changes: Any) -> Pipeline:
    """A pipeline that was saved so long ago."""
    definition = PipelineDefinition.model_validate(a_pipeline(name, **changes))
    pipeline = await commands.create(WORKSPACE, SOMEBODY, definition)
    async with commands.database.platform() as tx:
        for column, table in (("active_since", "pipelines"), ("anchor_at", "schedules")):
            statement = f"UPDATE scheduler.{table} SET {column} = {column} - make_interval(mins => $1)"
            await tx.execute(statement, round(hours_ago * 60))
    return pipeline


async def look(*freshness: Freshness) -> None:
    async def until_nothing(one: Freshness) -> None:
        while await one.look():
            pass

    await asyncio.gather(*(until_nothing(one) for one in freshness))


async def told(database: Database) -> list[tuple[str, dict[str, Any]]]:
    """What was said of lateness, in its order."""
    async with database.platform() as tx:
        rows = await tx.fetch(
            """SELECT type, data FROM scheduler.outbox
            WHERE type IN ('pipeline.late.v1', 'pipeline.recovered.v1') ORDER BY position"""
        )
    return [(row["type"].split(".")[1], row["data"]) for row in rows]


async def succeed(database: Database, pipeline: Pipeline, trigger: str = "manual") -> None:
    run = await RunCommands(database).start(WORKSPACE, str(pipeline.id), SOMEBODY, Wish({}, False, None))
    async with database.platform() as tx:
        now = await tx.fetchval("SELECT clock_timestamp()")
    over = RunSucceeded(run_id=run.id, pipeline_id=pipeline.id, attempt=1, started_at=now, finished_at=now)
    async with database.transaction(WORKSPACE) as tx:
        await tx.execute(
            "UPDATE scheduler.runs SET status = 'running', started_at = now(), trigger = $2 WHERE id = $1",
            run.id,
            trigger,
        )
        await mirror.ended(tx, WORKSPACE, Fact.SUCCEEDED, [over])


async def test_of_three_who_look_one_tells_of_each_late_pipeline_once(
    database: Database, commands: PipelineCommands, rivals: list[Freshness]
) -> None:
    for number in range(30):
        await made(commands, f"p{number}", triggers=[HOURLY])
    async with database.platform() as tx:
        await tx.execute("UPDATE scheduler.pipelines SET active_since = active_since - interval '90 minutes'")
        await tx.execute("UPDATE scheduler.schedules SET anchor_at = anchor_at - interval '90 minutes'")
    await look(*rivals)
    await look(*rivals)
    said = await told(database)
    assert [kind for kind, _ in said] == ["late"] * 30
    assert len({data["pipeline_id"] for _, data in said}) == 30


async def test_a_success_ends_it_and_the_next_lateness_is_told_again(
    database: Database, commands: PipelineCommands, rivals: list[Freshness]
) -> None:
    pipeline = await made(commands, hours_ago=1.5, triggers=[HOURLY])
    await look(rivals[0])
    await succeed(database, pipeline)
    await look(rivals[1])
    assert [kind for kind, _ in await told(database)] == ["late", "recovered"]
    async with database.platform() as tx:
        await tx.execute("UPDATE scheduler.runs SET queued_at = queued_at - interval '2 hours'")
        await tx.execute("UPDATE scheduler.runs SET finished_at = finished_at - interval '2 hours'")
        await tx.execute("UPDATE scheduler.pipelines SET active_since = active_since - interval '2 hours'")
        await tx.execute("UPDATE scheduler.pipelines SET expected_by = expected_by - interval '2 hours'")
        await tx.execute("UPDATE scheduler.schedules SET anchor_at = anchor_at - interval '2 hours'")
    await look(rivals[2])
    (_, first), (_, over), (kind, second) = await told(database)
    assert (over["reason"], kind) == ("succeeded", "late")
    assert first.get("last_success_at") is None
    assert second["last_success_at"] is not None


@pytest.mark.parametrize("trigger", ["replay", "backfill"])
async def test_rows_of_an_earlier_time_make_no_pipeline_fresh(
    database: Database, commands: PipelineCommands, rivals: list[Freshness], trigger: str
) -> None:
    pipeline = await made(commands, hours_ago=1.5, triggers=[HOURLY])
    await look(rivals[0])
    await succeed(database, pipeline, trigger)
    await look(rivals[0])
    assert [kind for kind, _ in await told(database)] == ["late"]


async def test_one_that_rests_is_not_late_and_resting_ends_it(
    database: Database, commands: PipelineCommands, rivals: list[Freshness]
) -> None:
    resting = await made(commands, "resting", hours_ago=1.5, triggers=[HOURLY])
    await commands.pause(WORKSPACE, str(resting.id), SOMEBODY)
    await look(rivals[0])
    assert await told(database) == []
    late = await made(commands, "late", hours_ago=1.5, triggers=[HOURLY])
    await look(rivals[0])
    await commands.pause(WORKSPACE, str(late.id), SOMEBODY)
    await look(rivals[0])
    assert [(kind, data["name"], data.get("reason")) for kind, data in await told(database)] == [
        ("late", "late", None),
        ("recovered", "late", "paused"),
    ]


async def test_one_within_its_time_and_one_that_no_clock_watches_are_not_late(
    database: Database, commands: PipelineCommands, rivals: list[Freshness]
) -> None:
    await made(commands, "by-hand", hours_ago=100)
    await made(commands, "in-time", hours_ago=1.1, triggers=[HOURLY])
    await look(rivals[0])
    assert await told(database) == []


async def test_a_wish_needs_no_trigger_and_a_change_of_it_is_heeded_at_once(
    database: Database, commands: PipelineCommands, rivals: list[Freshness]
) -> None:
    pipeline = await made(commands, hours_ago=3, freshness={"within": "2h"})
    await look(rivals[0])
    longer = PipelineDefinition.model_validate(a_pipeline(freshness={"within": "4h"}))
    await commands.save(WORKSPACE, str(pipeline.id), SOMEBODY, Edit(lambda _: None, lambda _: longer))
    await look(rivals[0])
    (_, late), (_, over) = await told(database)
    assert over["reason"] == "changed"
    assert late["pipeline_id"] == over["pipeline_id"] == str(pipeline.id)


async def test_the_pipeline_shows_it_and_late_ones_are_listed(control: Control, warehouse: str) -> None:
    await control.pipeline("fresh", triggers=[HOURLY])
    await control.pipeline("stale", freshness={"within": "50ms"})

    async def late() -> Any:
        return (await control.good("GET", "/api/pipelines?late=true"))["items"]

    (stale,) = await until(late, "one to be late")
    assert (stale["name"], stale["late_since"] >= stale["expected_by"]) == ("stale", True)
    (fresh,) = (await control.good("GET", "/api/pipelines?late=false"))["items"]
    assert (fresh["late_since"], fresh["expected_by"] is not None) == (None, True)
