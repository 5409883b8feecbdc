"""Schedules as a state machine: saved, edited, paused, resumed, decided and died of in any order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, rule

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.db import Database
from dataaggregator.settings import Settings
from services.scheduler.pipelines import schedules
from services.scheduler.runs import commands as runs
from services.scheduler.runs import store as run_store
from services.scheduler.ticker import Ticker
from tests.faults import invariants
from tests.faults.fires_oracle import fires_in, walk
from tests.faults.invariants import Connection
from tests.faults.machine import Machine, run_machine
from tests.faults.schedulers import (
    SCHEDULERS,
    SOMEBODY,
    commands_of,
    delete_pipeline,
    save_pipelines,
    save_trigger,
)
from tests.faults.virtual_clock import VirtualClock, virtual_clock
from tests.integration.bus.rig import DeathError
from tests.integration.control import WORKSPACE, a_pipeline

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

START = datetime(2026, 10, 24, 21, 0, 30, tzinfo=UTC)
"""The clock goes back in Zurich four hours later."""
MISSED = timedelta(seconds=60)
INTERVALS = {"7m": timedelta(minutes=7), "1h": timedelta(hours=1)}
LINES = ("*/20 * * * *", "30 2 * * *", "15 * * * *")
PLACES: dict[str, tuple[Any, str]] = {
    "before the run": (runs, "queue"),
    "before the slot": (schedules, "add_slot"),
    "before the schedule moves on": (schedules, "move"),
    "before the run is stored": (run_store, "add"),
}

TRIGGERS = st.one_of(
    st.fixed_dictionaries({"every": st.sampled_from(list(INTERVALS))}),
    st.fixed_dictionaries({"cron": st.sampled_from(LINES), "timezone": st.just("Europe/Zurich")}),
).flatmap(lambda what: st.sampled_from(["latest", "all", "none"]).map(lambda catch_up: {**what, "catch_up": catch_up}))


@cache
def fires_of(line: str) -> list[datetime]:
    """As long as an example may last."""
    end = START + timedelta(days=4)
    return fires_in(walk(ZoneInfo("Europe/Zurich"), START, end), line, START, end)


@dataclass
class World:
    database: Database
    connection: Connection
    clock: VirtualClock
    tickers: list[Ticker]


@pytest.fixture
async def world(settings: Settings, database_url: str, connection: Connection) -> AsyncIterator[World]:
    async with AsyncExitStack() as held:
        clock = await held.enter_async_context(virtual_clock(database_url))
        databases = [Database(database_url, settings) for _ in range(SCHEDULERS)]
        for database in databases:
            await database.open()
            held.push_async_callback(database.close)
        yield World(databases[0], connection, clock, [Ticker(database, settings) for database in databases])


@dataclass
class Known:
    """A pipeline with its one trigger, and the slots that it must have."""

    trigger: dict[str, Any]
    anchor: datetime
    active_since: datetime
    paused: bool = False
    slots: list[tuple[datetime, str]] = field(default_factory=list)
    decided: datetime = START

    def decide(self, now: datetime) -> None:
        """Everything that is due and nobody has decided on."""
        due = [fire for fire in self._fires(now) if fire > self.decided]
        for place, fire in enumerate(due):
            self.slots.append((fire, self._outcome(fire, now, newest=place == len(due) - 1)))
        self.decided = now

    def end(self, now: datetime, reason: str) -> None:
        """What nobody has decided on goes with the trigger."""
        self.slots += [(fire, reason) for fire in self._fires(now) if fire > self.decided]
        self.anchor = self.decided = now

    def _fires(self, now: datetime) -> list[datetime]:
        if "every" in self.trigger:
            interval = INTERVALS[self.trigger["every"]]
            return [self.anchor + interval * number for number in range(1, 1 + (now - self.anchor) // interval)]
        return [fire for fire in fires_of(self.trigger["cron"]) if self.anchor < fire <= now]

    def _outcome(self, fire: datetime, now: datetime, *, newest: bool) -> str:
        if self.paused or fire < self.active_since:
            return "pipeline-paused"
        if self.trigger["catch_up"] == "latest" and not newest:
            return "newer-slot-due"
        if self.trigger["catch_up"] == "none" and (not newest or now - fire > MISSED):
            return "missed"
        return "fired"


class Schedules(Machine[World]):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.known: dict[str, Known] = {}
        self.ids: dict[str, UUID] = {}
        self.gone: list[tuple[UUID, Known]] = []

    @initialize(triggers=st.lists(TRIGGERS, min_size=1, max_size=3))
    def begin(self, triggers: list[dict[str, Any]]) -> None:
        self.wait(self._begin(triggers))
        self.known = {f"p{number}": Known(one, self.now, self.now) for number, one in enumerate(triggers)}

    async def _begin(self, triggers: list[dict[str, Any]]) -> None:
        await self.world.connection.execute(
            "TRUNCATE scheduler.pipelines, scheduler.schedules, scheduler.runs, scheduler.connectors, scheduler.outbox,"
            " scheduler.subject_sequences CASCADE"
        )
        await self.world.clock.set(self.now, 0.0)
        saved = await save_pipelines(self.world.database, [{"triggers": [one]} for one in triggers])
        self.ids = {pipeline.name: pipeline.id for pipeline in saved}

    def one(self, data: st.DataObject) -> str:
        name: str = data.draw(st.sampled_from(sorted(self.known)))
        return name

    @rule(seconds=st.sampled_from([1, 40, 500, 4000, 10_000]))
    def wait_for(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.wait(self.world.clock.set(self.now, 0.0))

    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        self._pause(self.one(data))

    def _pause(self, name: str) -> None:
        self.wait(commands_of(self.world.database).pause(WORKSPACE, name, SOMEBODY))
        self.known[name].paused = True

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self._resume(self.one(data))

    def _resume(self, name: str) -> None:
        known = self.known[name]
        self.wait(commands_of(self.world.database).resume(WORKSPACE, name, SOMEBODY))
        if known.paused:
            known.paused, known.active_since = False, self.now

    @rule(data=st.data())
    def rest(self, data: st.DataObject) -> None:
        """Slots come due in a pause that ends before anybody decides on them."""
        name = self.one(data)
        self._pause(name)
        self.wait_for(4000)
        self._resume(name)

    @rule(data=st.data(), trigger=TRIGGERS)
    def edit(self, data: st.DataObject, trigger: dict[str, Any]) -> None:
        name = self.one(data)
        known = self.known[name]
        self.wait(save_trigger(self.world.database, name, trigger))
        if {**trigger, "catch_up": None} != {**known.trigger, "catch_up": None}:
            known.end(self.now, "trigger-removed")
        known.trigger = trigger

    @rule(data=st.data(), trigger=TRIGGERS)
    def replace(self, data: st.DataObject, trigger: dict[str, Any]) -> None:
        """Deleted, and another one under its name."""
        name = self.one(data)
        known = self.known[name]
        self.wait(delete_pipeline(self.world.database, name))
        known.end(self.now, "pipeline-deleted")
        self.gone.append((self.ids[name], known))
        self.known[name] = Known(trigger, self.now, self.now, decided=self.now)
        self.ids[name] = self.wait(self._create(name, trigger))

    async def _create(self, name: str, trigger: dict[str, Any]) -> UUID:
        wanted = PipelineDefinition.model_validate(a_pipeline(name, triggers=[trigger]))
        return (await commands_of(self.world.database).create(WORKSPACE, SOMEBODY, wanted)).id

    @rule(place=st.sampled_from(sorted(PLACES)))
    def die(self, place: str) -> None:
        """A scheduler dies of its first decision, if one comes by there: what it has not committed never happened."""
        with dying(*PLACES[place]), suppress(DeathError):
            self.wait(self.world.tickers[0].tick())
        self.tick()

    @rule()
    def tick(self) -> None:
        """All schedulers at once, until nothing is due."""
        self.wait(self._tick())
        for known in self.known.values():
            known.decide(self.now)
        there = [(self.ids[name], known) for name, known in self.known.items()]
        for id_, known in [*there, *self.gone]:
            assert self.wait(self._slots(id_)) == known.slots, known
        self.wait(invariants.check_slots(self.world.connection))
        self.wait(invariants.check_sequences(self.world.connection, "scheduler"))

    async def _tick(self) -> None:
        async def all_due(ticker: Ticker) -> None:
            while await ticker.tick():
                pass

        await asyncio.gather(*(all_due(ticker) for ticker in self.world.tickers))
        await all_due(self.world.tickers[0])

    async def _slots(self, pipeline: UUID) -> list[tuple[datetime, str]]:
        rows = await self.world.connection.fetch(
            "SELECT slot_at, coalesce(reason, outcome) AS ended FROM scheduler.slots WHERE pipeline_id = $1 ORDER BY 1",
            pipeline,
        )
        return [(row["slot_at"], row["ended"]) for row in rows]

    def teardown(self) -> None:
        if self.known:
            self.tick()


@contextmanager
def dying(room: Any, name: str) -> Iterator[None]:
    """As long as the block lasts, whoever passes there dies."""
    original: Callable[..., Any] = getattr(room, name)

    async def die(*_: Any, **__: Any) -> None:
        raise DeathError

    setattr(room, name, die)
    try:
        yield
    finally:
        setattr(room, name, original)


@pytest.mark.tries(1, 100)
async def test_each_slot_has_the_one_row_that_it_must_have_whatever_happens(world: World, seed: int) -> None:
    await run_machine(Schedules, world, seed)
