"""Runs as the scheduler mirrors them, as a state machine: words come in any order, twice and too late."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from asyncpg import Record
from hypothesis.stateful import initialize, invariant, precondition, rule

from dataaggregator.contracts.run import (
    RunAttemptFailed,
    RunCancelled,
    RunEnded,
    RunError,
    RunFailed,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
)
from dataaggregator.db import Connection as Transaction
from dataaggregator.db import Database
from dataaggregator.errors import Conflict
from dataaggregator.settings import Settings
from services.scheduler.runs import mirror
from services.scheduler.runs.commands import RunCommands, Wish
from services.scheduler.runs.domain import ENDED, STEPS, Fact, Status
from services.scheduler.ticker import Ticker
from tests.faults.invariants import Connection
from tests.faults.machine import Machine, run_machine
from tests.faults.schedulers import SOMEBODY, save_pipelines
from tests.faults.virtual_clock import VirtualClock, virtual_database
from tests.integration.control import WORKSPACE

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
LIMIT = timedelta(seconds=60)
MOST_RUNS = 5
ERROR = RunError(code="connector-unreachable", detail="It does not answer.", retryable=True)
ENDS: Mapping[Fact, type[RunEnded]] = {
    Fact.SUCCEEDED: RunSucceeded,
    Fact.FAILED: RunFailed,
    Fact.CANCELLED: RunCancelled,
    Fact.TIMED_OUT: RunTimedOut,
}
ALLOWED = {(before, after) for (before, _), after in STEPS.items()}


@dataclass
class World:
    database: Database
    connection: Connection
    clock: VirtualClock
    ticker: Ticker


@pytest.fixture
async def world(settings: Settings, database_url: str, connection: Connection) -> AsyncIterator[World]:
    async with virtual_database(database_url, settings) as (database, clock):
        limited = settings.model_copy(update={"queue_limit_seconds": LIMIT.total_seconds()})
        yield World(database, connection, clock, Ticker(database, limited))


class Lives(Machine[World]):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.pipeline_id: UUID | None = None
        self.runs: dict[UUID, Record] = {}

    @initialize()
    def begin(self) -> None:
        self.pipeline_id = self.wait(self._begin())

    async def _begin(self) -> UUID:
        await self.world.connection.execute(
            "TRUNCATE scheduler.pipelines, scheduler.runs, scheduler.connectors, scheduler.outbox,"
            " scheduler.subject_sequences CASCADE"
        )
        await self.world.clock.set(self.now, 0.0)
        [pipeline] = await save_pipelines(self.world.database, [{}])
        return pipeline.id

    @precondition(lambda self: len(self.runs) < MOST_RUNS)
    @rule()
    def ask(self) -> None:
        self.wait(RunCommands(self.world.database).start(WORKSPACE, "p0", SOMEBODY, Wish({})))

    def one(self, data: st.DataObject, *, handed_over: bool = False) -> UUID:
        found = [id_ for id_, run in self.runs.items() if not handed_over or run["handed_over_at"] is not None]
        id_: UUID = data.draw(st.sampled_from(sorted(found)))
        return id_

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), attempt=st.integers(1, 3))
    def start(self, data: st.DataObject, attempt: int) -> None:
        told = RunStarted(**self._about(self.one(data, handed_over=True), attempt), executor="e1", started_at=self.now)
        self.say(lambda tx: mirror.started(tx, WORKSPACE, [told]))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), attempt=st.integers(1, 3), again=st.booleans())
    def fail_attempt(self, data: st.DataObject, attempt: int, again: bool) -> None:
        about = self._about(self.one(data, handed_over=True), attempt)
        told = RunAttemptFailed(**about, error=ERROR, retry_at=self.now if again else None)
        self.say(lambda tx: mirror.attempt_failed(tx, WORKSPACE, told, self.now))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), fact=st.sampled_from(list(ENDS)), times=st.integers(1, 2))
    def end(self, data: st.DataObject, fact: Fact, times: int) -> None:
        told = ENDS[fact](**self._about(self.one(data, handed_over=True), 1), finished_at=self.now)
        for _ in range(times):
            self.say(lambda tx: mirror.ended(tx, WORKSPACE, fact, [told]))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        with suppress(Conflict):
            self.wait(RunCommands(self.world.database).cancel(WORKSPACE, self.one(data), SOMEBODY))

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def wait_for(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.wait(self.world.clock.set(self.now, 0.0))
        self.wait(self.world.ticker.expire())

    def _about(self, run_id: UUID, attempt: int) -> dict[str, Any]:
        return {"run_id": run_id, "pipeline_id": self.pipeline_id, "attempt": attempt}

    def say(self, follow: Callable[[Transaction], Any]) -> None:
        """As the bus does: what does not fit is undone whole."""
        with suppress(Conflict):
            self.wait(self._say(follow))

    async def _say(self, follow: Callable[[Transaction], Any]) -> None:
        async with self.world.database.transaction(WORKSPACE) as tx:
            await follow(tx)

    @invariant()
    def each_step_is_in_the_table_and_an_ended_run_never_changes(self) -> None:
        before, self.runs = self.runs, self.wait(self._stored())
        for id_, run in self.runs.items():
            was = before.get(id_)
            if was is None or was["status"] == run["status"]:
                continue
            assert (Status(was["status"]), Status(run["status"])) in ALLOWED
        for id_, was in before.items():
            if was["status"] in ENDED:
                assert dict(self.runs[id_]) == dict(was)

    @invariant()
    def one_has_its_turn_while_any_waits(self) -> None:
        unended = [run for run in self.runs.values() if run["status"] not in ENDED]
        at_work = [run for run in unended if run["handed_over_at"] is not None]
        assert len(at_work) == min(1, len(unended))

    @invariant()
    def what_was_never_handed_over_has_neither_attempts_nor_an_end_by_an_executor(self) -> None:
        for run in self.runs.values():
            if run["handed_over_at"] is None:
                assert run["status"] in {Status.QUEUED, Status.CANCELLED, Status.SKIPPED}

    async def _stored(self) -> dict[UUID, Record]:
        rows = await self.world.connection.fetch("SELECT * FROM scheduler.runs ORDER BY queued_at, id")
        return {row["id"]: row for row in rows}


@pytest.mark.tries(1, 100)
async def test_a_run_takes_only_steps_of_the_table_whatever_is_said(world: World, seed: int) -> None:
    await run_machine(Lives, world, seed)
