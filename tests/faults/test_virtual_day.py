"""A day passes in minutes over many schedules and three schedulers that die at random: no slot is missing or double."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from dataaggregator.db import Database
from dataaggregator.settings import Settings
from services.scheduler.pipelines.domain import Pipeline
from tests.faults import invariants
from tests.faults.day import LONGEST_DELAY, Day, Judge, Plan, Rest, a_plan, by_pipeline, expected
from tests.faults.invariants import Connection
from tests.faults.schedulers import SCHEDULERS, SOMEBODY, Schedulers, commands_of, save_pipelines, schedulers
from tests.faults.virtual_clock import VirtualClock, virtual_database
from tests.integration.bus.rig import eventually
from tests.integration.control import WORKSPACE

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

SCHEDULES, HOURS, SPEED = (1000, 24, 180.0) if os.environ.get("FAULTS") == "all" else (50, 2, 720.0)
# Two of them have a clock change in most zones of a continent.
DAYS = ("2026-10-24T12:00:00", "2026-03-07T18:00:00", "2026-06-15T00:00:00")
LOOK_SECONDS = 0.1
DEATHS_A_SECOND = 0.5
OUTAGES_A_SECOND = 0.03
OUTAGE_SECONDS = 2.0
PAUSED_SHARE = 0.1
SETTLED_SECONDS = 300.0


@dataclass
class World:
    """The database whose clock is ours, and the pipelines in it."""

    database: Database
    clock: VirtualClock
    day: Day
    saved: list[tuple[Pipeline, Plan]]

    async def pause(self, pipeline: Pipeline, plan: Plan) -> None:
        before = await self.clock.now()
        await commands_of(self.database).pause(WORKSPACE, pipeline.name, SOMEBODY)
        plan.rests.append(Rest((before, await self.clock.now())))

    async def resume(self, pipeline: Pipeline, plan: Plan) -> None:
        before = await self.clock.now()
        await commands_of(self.database).resume(WORKSPACE, pipeline.name, SOMEBODY)
        plan.rests[-1].ended = (before, await self.clock.now())


@pytest.fixture
async def world(settings: Settings, database_url: str, seed: int, chance: random.Random) -> AsyncIterator[World]:
    """At the beginning of its day, when all pipelines are saved."""
    start = datetime.fromisoformat(DAYS[seed % len(DAYS)]).replace(tzinfo=UTC)
    day = Day(start, start + timedelta(hours=HOURS))
    async with virtual_database(database_url, settings) as (database, clock):
        await clock.set(start, 1.0)
        plans = [a_plan(day, chance) for _ in range(SCHEDULES)]
        pipelines = await save_pipelines(database, [plan.changes for plan in plans])
        yield World(database, clock, day, list(zip(pipelines, plans, strict=True)))


@pytest.mark.tries(1, 1)
async def test_each_slot_of_a_day_is_fired_once_or_skipped_with_a_reason(
    world: World, database_url: str, connection: Connection, chance: random.Random
) -> None:
    async with schedulers(database_url, tick_seconds=0.05) as racing:
        await world.clock.set(await world.clock.now(), SPEED)
        await live(world, racing, chance)
        await world.clock.set(max(await world.clock.now(), world.day.end + LONGEST_DELAY), 1.0)
        await eventually(lambda: nothing_is_due(connection, world.day), SETTLED_SECONDS)
    assert racing.killed > 0
    schedules = await connection.fetch("SELECT pipeline_id, anchor_at, delay FROM scheduler.schedules")
    slots = await connection.fetch(
        "SELECT * FROM scheduler.slots WHERE slot_at <= $1 ORDER BY schedule_id, slot_at", world.day.end
    )
    found, plans = by_pipeline(slots), {pipeline.id: plan for pipeline, plan in world.saved}
    for schedule in schedules:
        plan, mine = plans[schedule["pipeline_id"]], found.get(schedule["pipeline_id"], [])
        fires = expected(plan, schedule["anchor_at"], world.day)
        assert [slot["slot_at"] for slot in mine] == [fire for fire in fires if fire <= world.day.end], plan
        assert Judge(plan, schedule["delay"]).wrong(mine, fires) == []
    endings = Counter(slot["reason"] or slot["outcome"] for slot in slots)
    print(f"{len(slots)} slots, {racing.killed} schedulers killed: {dict(endings)}")  # noqa: T201 - what was tried
    assert {"fired", "skipped"} == {slot["outcome"] for slot in slots}
    await invariants.check_slots(connection)
    await invariants.check_sequences(connection, "scheduler")


async def live(world: World, racing: Schedulers, chance: random.Random) -> None:
    """Until the day is over: pipelines are paused and resumed, schedulers die one by one, and now and then all."""
    wishes = sorted(
        (
            (moment, number)
            for number in range(SCHEDULES)
            if chance.random() < PAUSED_SHARE
            for moment in two(world, chance)
        ),
    )
    while (now := await world.clock.now()) < world.day.end:
        while wishes and wishes[0][0] <= now:
            pipeline, plan = world.saved[wishes.pop(0)[1]]
            resting = bool(plan.rests) and plan.rests[-1].ended is None
            await (world.resume if resting else world.pause)(pipeline, plan)
        if chance.random() < OUTAGES_A_SECOND * LOOK_SECONDS:
            await racing.kill(chance, SCHEDULERS)
            await asyncio.sleep(chance.uniform(0, OUTAGE_SECONDS))
        elif chance.random() < DEATHS_A_SECOND * LOOK_SECONDS:
            await racing.kill(chance)
        await racing.start()
        await asyncio.sleep(LOOK_SECONDS)


def two(world: World, chance: random.Random) -> tuple[datetime, datetime]:
    return world.day.moment(chance), world.day.moment(chance)


async def nothing_is_due(connection: Connection, day: Day) -> bool:
    statement = "SELECT count(*) FROM scheduler.schedules WHERE next_slot_at <= $1 AND retired_at IS NULL"
    return not await connection.fetchval(statement, day.end)
