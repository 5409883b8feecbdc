"""A day passes in minutes over many schedules and three schedulers that die at random: no slot is missing or double."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from dataaggregator.db import Database
from dataaggregator.settings import Settings
from services.scheduler.pipelines.domain import Pipeline
from tests.faults.at_rest import check_schedulers
from tests.faults.day import (
    LONGEST_DELAY,
    Day,
    Life,
    Plan,
    Rest,
    a_plan,
    another_trigger,
    by_pipeline,
    check_plan,
    expected,
)
from tests.faults.invariants import Connection
from tests.faults.schedulers import (
    SCHEDULERS,
    SOMEBODY,
    Schedulers,
    commands_of,
    delete_pipeline,
    save_pipelines,
    save_trigger,
    schedulers,
)
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
PAUSED_SHARE, EDITED_SHARE, DELETED_SHARE = 0.1, 0.4, 0.1
SETTLED_SECONDS = 300.0

Wish = Callable[[Pipeline, Plan], Awaitable[None]]


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

    async def edit(self, pipeline: Pipeline, plan: Plan, chance: random.Random) -> None:
        plan.trigger = another_trigger(plan.trigger, self.day, chance)
        await save_trigger(self.database, pipeline.name, plan.trigger)
        await self.ended(plan, "trigger-removed")
        await self.begun(pipeline, plan)
        assert plan.lives[-1].anchor == plan.lives[-2].ended, "nothing lies between two triggers"

    async def delete(self, pipeline: Pipeline, plan: Plan) -> None:
        await delete_pipeline(self.database, pipeline.name)
        await self.ended(plan, "pipeline-deleted")
        plan.deleted = True

    async def begun(self, pipeline: Pipeline, plan: Plan) -> None:
        statement = """
            SELECT id, anchor_at, delay FROM scheduler.schedules WHERE pipeline_id = $1 AND retired_at IS NULL"""
        row = await self.clock.connection.fetchrow(statement, pipeline.id)
        assert row is not None
        plan.lives.append(Life(plan.trigger, *row))

    async def ended(self, plan: Plan, reason: str) -> None:
        life = plan.lives[-1]
        statement = "SELECT retired_at FROM scheduler.schedules WHERE id = $1"
        life.ended, life.reason = await self.clock.connection.fetchval(statement, life.schedule_id), reason


@pytest.fixture
async def world(settings: Settings, database_url: str, seed: int, chance: random.Random) -> AsyncIterator[World]:
    """At the beginning of its day, when all pipelines are saved."""
    start = datetime.fromisoformat(DAYS[seed % len(DAYS)]).replace(tzinfo=UTC)
    day = Day(start, start + timedelta(hours=HOURS))
    async with virtual_database(database_url, settings) as (database, clock):
        await clock.set(start, 1.0)
        plans = [a_plan(day, chance) for _ in range(SCHEDULES)]
        pipelines = await save_pipelines(database, [plan.changes for plan in plans])
        world = World(database, clock, day, list(zip(pipelines, plans, strict=True)))
        for pipeline, plan in world.saved:
            await world.begun(pipeline, plan)
        yield world


@pytest.mark.tries(1, 1)
async def test_each_slot_of_a_day_is_fired_once_or_skipped_with_a_reason(
    world: World, database_url: str, connection: Connection, chance: random.Random
) -> None:
    async with schedulers(database_url, tick_seconds=0.05) as racing:
        await world.clock.set(await world.clock.now(), SPEED)
        await live(world, racing, VirtualClock(connection), chance)
        await world.clock.set(max(await world.clock.now(), world.day.end + LONGEST_DELAY), 1.0)
        await eventually(lambda: nothing_is_due(connection, world.day), SETTLED_SECONDS)
    assert racing.killed > 0
    slots = await connection.fetch(
        "SELECT * FROM scheduler.slots WHERE slot_at <= $1 ORDER BY schedule_id, slot_at", world.day.end
    )
    found = by_pipeline(slots)
    for pipeline, plan in world.saved:
        check_plan(plan, found.get(pipeline.id, []), world.day)
    endings = Counter(slot["reason"] or slot["outcome"] for slot in slots)
    print(f"{len(slots)} slots, {racing.killed} schedulers killed: {dict(endings)}")  # noqa: T201 - what was tried
    assert {"fired", "skipped"} == {slot["outcome"] for slot in slots}
    await check_schedulers(connection)


async def live(world: World, racing: Schedulers, clock: VirtualClock, chance: random.Random) -> None:
    """Until the day is over: pipelines are paused, resumed, edited and deleted while schedulers die.

    `clock` is the same one, seen over a connection of its own.
    """
    wishes = sorted(
        (wish for number in range(SCHEDULES) for wish in wishes_for(world, number, chance)), key=lambda wish: wish[:2]
    )
    dying = random.Random(chance.random())
    await asyncio.gather(heed(world, wishes), die(clock, world.day.end, racing, dying))


async def heed(world: World, wishes: list[tuple[datetime, int, Wish]]) -> None:
    while wishes and (now := await world.clock.now()) < world.day.end:
        while wishes and wishes[0][0] <= now:
            _, number, wish = wishes.pop(0)
            pipeline, plan = world.saved[number]
            if not plan.deleted:
                await wish(pipeline, plan)
        await asyncio.sleep(LOOK_SECONDS)


async def die(clock: VirtualClock, end: datetime, racing: Schedulers, chance: random.Random) -> None:
    """One by one, and now and then all of them."""
    while await clock.now() < end:
        if chance.random() < OUTAGES_A_SECOND * LOOK_SECONDS:
            await racing.kill(chance, SCHEDULERS)
            await asyncio.sleep(chance.uniform(0, OUTAGE_SECONDS))
        elif chance.random() < DEATHS_A_SECOND * LOOK_SECONDS:
            await racing.kill(chance)
        await racing.start()
        await asyncio.sleep(LOOK_SECONDS)


def wishes_for(world: World, number: int, chance: random.Random) -> Iterator[tuple[datetime, int, Wish]]:
    """When somebody wants something of a pipeline; an edit often falls together with a slot."""

    async def rest(pipeline: Pipeline, plan: Plan) -> None:
        resting = bool(plan.rests) and plan.rests[-1].ended is None
        await (world.resume if resting else world.pause)(pipeline, plan)

    async def edit(pipeline: Pipeline, plan: Plan) -> None:
        await world.edit(pipeline, plan, chance)

    if chance.random() < PAUSED_SHARE:
        yield world.day.moment(chance), number, rest
        yield world.day.moment(chance), number, rest
    if chance.random() < EDITED_SHARE:
        fires = expected(world.saved[number][1].trigger, world.day.start, world.day)
        yield (
            chance.choice([fire for fire in fires if fire < world.day.end] or [world.day.moment(chance)]),
            number,
            edit,
        )
        yield world.day.moment(chance), number, edit
    if chance.random() < DELETED_SHARE:
        yield world.day.moment(chance), number, world.delete


async def nothing_is_due(connection: Connection, day: Day) -> bool:
    statement = "SELECT count(*) FROM scheduler.schedules WHERE next_slot_at <= $1 AND retired_at IS NULL"
    return not await connection.fetchval(statement, day.end)
