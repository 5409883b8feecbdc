"""Leases as a state machine: executors claim, renew, write, end and die in any order; the model says who may."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, invariant, precondition, rule

from dataaggregator.contracts.policies import RetryPolicy
from dataaggregator.dataplane.job import KnownCursor
from dataaggregator.db import Database
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from services.executor import commands, limiting
from services.executor.commands import AttemptEnd, Attempts, run_error
from services.executor.domain import CANCELLED, UNKNOWN, End, Ending, Standing, Status, decide, has_ended
from services.executor.reaper import Reaper, ReaperTimes
from services.executor.store import cursors, runs
from services.executor.store.lanes import Limit
from services.executor.store.runs import Run
from tests.faults.invariants import Connection
from tests.faults.machine import Machine, run_machine
from tests.faults.virtual_clock import VirtualClock, virtual_database
from tests.integration.control import WORKSPACE
from tests.integration.executor.place import a_run
from tests.integration.executor.test_limits import using

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
LEASE = timedelta(seconds=60)
EXECUTORS = ("one", "two", "three")
ENDS = (End.SUCCEEDED, End.FAILED, End.HANDED_BACK, End.LOST)
MOST_RUNS = 3
LANES = 2
"""So many runs of one connector may be at work at once."""


@dataclass
class World:
    database: Database
    connection: Connection
    clock: VirtualClock


@pytest.fixture
async def world(settings: Settings, database_url: str, connection: Connection) -> AsyncIterator[World]:
    async with virtual_database(database_url, settings) as (database, clock):
        yield World(database, connection, clock)


@dataclass
class Known:
    """A run as it must be stored."""

    pipeline_id: UUID
    due_at: datetime
    status: Status = Status.QUEUED
    attempt: int = 1
    lost: int = 0
    epoch: int | None = None
    lease_until: datetime | None = None
    cancelled: bool = False
    ending: Ending | None = None
    last_end: End | None = None
    cursor: int | None = None
    words: list[str] = field(default_factory=list)

    def settle(self, end: End, now: datetime) -> None:
        """Its attempt is over; what comes of that the platform's own rule says, which has tests of its own."""
        standing = Standing(self.attempt, self.lost, self.cancelled, self.ending)
        verdict = decide(standing, end, error_of(end), RetryPolicy(), 0.0)
        self.status, self.attempt, self.lost, self.ending = (
            verdict.status,
            verdict.attempt,
            verdict.lost,
            verdict.ending,
        )
        self.lease_until, self.last_end = None, end
        if self.status is Status.QUEUED:
            self.due_at = now + timedelta(seconds=verdict.retry_in_seconds or 0.0)
        self.words.append("attempt_failed" if self.status is Status.QUEUED else self.status.value)


def error_of(end: End) -> Any:
    return None if end is End.SUCCEEDED else run_error("connector-refused", "It refuses.", retryable=False)


class Leases(Machine[World]):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.runs: dict[UUID, Known] = {}
        self.claims: list[Run] = []

    @initialize()
    def begin(self) -> None:
        self.wait(self.world.connection.execute("TRUNCATE executor.runs, executor.outbox CASCADE"))
        self.wait(self.world.clock.set(self.now, 0.0))
        self.connector = new_id()
        self.wait(self._limit())

    async def _limit(self) -> None:
        async with self.world.database.transaction(WORKSPACE) as tx:
            limit = Limit(self.connector, WORKSPACE, "connector", "erp", LANES, LANES)
            await limiting.change_connector(tx, limit)

    def attempts(self, executor: str) -> Attempts:
        return Attempts(self.world.database, executor, LEASE.total_seconds())

    @precondition(lambda self: len(self.runs) < MOST_RUNS)
    @rule()
    def queue(self) -> None:
        asked = a_run(definition=using(self.connector))
        self.wait(self._accept(asked.run_id, asked.model_dump(mode="json")))
        self.wait(self._accept(asked.run_id, asked.model_dump(mode="json")))
        self.runs[asked.run_id] = Known(asked.pipeline_id, self.now)

    async def _accept(self, run_id: UUID, asked: dict[str, Any]) -> None:
        async with self.world.database.transaction(WORKSPACE) as tx:
            await commands.accept(tx, WORKSPACE, run_id, asked, None)
            await tx.execute("UPDATE executor.runs SET due_at = $2 WHERE run_id = $1 AND attempt = 1", run_id, self.now)

    @rule(executors=st.lists(st.sampled_from(EXECUTORS), min_size=1, max_size=3, unique=True), most=st.integers(1, 2))
    def claim(self, executors: list[str], most: int) -> None:
        """At the same time, if there are several."""
        looks = self.wait(self._look(executors, most))
        claimed = [one.run for seen in looks for one in seen.begun]
        due = [
            run_id for run_id, known in self.runs.items() if known.status is Status.QUEUED and known.due_at <= self.now
        ]
        asking = sum(self.runs[run_id].ending is not None for run_id in due)  # needs no lane
        most_of_all = min(asking + min(len(due) - asking, LANES - self.held()), most * len(executors))
        assert len({run.run_id for run in claimed}) == len(claimed) <= most_of_all
        # Of several at the same time one may find that another was quicker, and looks again.
        assert len(claimed) == most_of_all or len(executors) > 1
        for run in claimed:
            known = self.runs[run.run_id]
            assert run.run_id in due
            assert run.epoch > max((one.epoch for one in self.claims if one.run_id == run.run_id), default=0)
            known.status, known.epoch, known.lease_until = Status.RUNNING, run.epoch, self.now + LEASE
            known.words.append("started")
        assert not {run.epoch for run in claimed} & {run.epoch for run in self.claims}
        self.claims += claimed

    async def _look(self, executors: list[str], most: int) -> list[commands.Seen]:
        asked = (self.attempts(one).look({"executor": one}, most, ()) for one in executors)
        return list(await asyncio.gather(*asked))

    def held(self) -> int:
        """The lanes taken."""
        return sum(known.status is Status.RUNNING and known.ending is None for known in self.runs.values())

    def holds(self, run: Run) -> bool:
        known = self.runs[run.run_id]
        return known.status is Status.RUNNING and known.epoch == run.epoch

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """Of several claims, old ones too."""
        asked = {run.run_id: run.epoch for run in data.draw(st.lists(st.sampled_from(self.claims), min_size=1))}
        kept = self.wait(self._renew(asked))
        assert kept == {run_id for run_id, epoch in asked.items() if self.holds(self._claim(run_id, epoch))}
        for run_id in kept:
            self.runs[run_id].lease_until = self.now + LEASE

    async def _renew(self, asked: dict[UUID, int]) -> set[UUID]:
        async with self.world.database.platform() as tx:
            return await runs.renew(tx, asked, LEASE.total_seconds())

    def _claim(self, run_id: UUID, epoch: int) -> Run:
        return next(run for run in self.claims if (run.run_id, run.epoch) == (run_id, epoch))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), value=st.integers(1, 99))
    def write(self, data: st.DataObject, value: int) -> None:
        run = data.draw(st.sampled_from(self.claims))
        committed = [KnownCursor(destination="warehouse", source="a", cursor={"value": value})]
        self.wait(self.attempts("one").record_cursors(run, committed))
        if self.holds(run):
            self.runs[run.run_id].cursor = value

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), end=st.sampled_from(ENDS))
    def end(self, data: st.DataObject, end: End) -> None:
        run = data.draw(st.sampled_from(self.claims))
        held = self.holds(run)
        verdict = self.wait(self.attempts("one").record(run, AttemptEnd(end, error_of(end))))
        assert (verdict is not None) == held
        if held:
            self.runs[run.run_id].settle(end, self.now)

    @rule(seconds=st.sampled_from([1, 15, 59, 61, 120]))
    def wait_for(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.wait(self.world.clock.set(self.now, 0.0))

    @rule()
    def reap(self) -> None:
        self.wait(Reaper(self.world.database, ReaperTimes(0.0, 3600.0)).reap_expired())
        for known in self.runs.values():
            if known.lease_until is not None and known.lease_until < self.now:
                known.settle(End.LOST, self.now)

    @precondition(lambda self: any(known.status is Status.RUNNING for known in self.runs.values()))
    @rule()
    def overtake(self) -> None:
        """Whoever was at work has another behind him, and knows nothing of it."""
        self.wait_for(61)
        self.reap()
        self.claim(["three"], MOST_RUNS)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run_id = data.draw(st.sampled_from(sorted(self.runs)))
        self.wait(self._cancel(run_id))
        known = self.runs[run_id]
        if has_ended(known.status):
            return
        known.cancelled = True
        if known.status is Status.RUNNING:
            return
        if known.last_end in UNKNOWN:  # the destinations are asked first
            known.ending, known.due_at = known.ending or CANCELLED, self.now
        else:
            known.status = Status.CANCELLED
            known.words.append("cancelled")

    async def _cancel(self, run_id: UUID) -> None:
        async with self.world.database.transaction(WORKSPACE) as tx:
            await commands.request_cancel(tx, WORKSPACE, run_id, self.now)

    @invariant()
    def each_run_is_as_it_must_be(self) -> None:
        stored = self.wait(self._stored())
        assert {run_id: replace(known, last_end=None) for run_id, known in self.runs.items()} == stored

    @invariant()
    def who_is_at_work_with_the_connector_is_in_a_lane(self) -> None:
        found = self.wait(self._lanes())
        assert (found, found <= LANES) == (self.held(), True)

    async def _lanes(self) -> int:
        async with self.world.database.platform() as tx:
            found: int = await tx.fetchval(
                """SELECT count(*) FROM executor.lanes JOIN executor.runs USING (run_id)
                   WHERE runs.status = 'running' AND holder = $1""",
                self.connector,
            )
        return found

    async def _stored(self) -> dict[UUID, Known]:
        async with self.world.database.platform() as tx:
            rows = await tx.fetch("SELECT * FROM executor.runs")
            words = await tx.fetch("SELECT subject, type FROM executor.outbox ORDER BY position")
            found = {}
            for row in rows:
                kept, run = await cursors.list_cursors(tx, WORKSPACE, row["pipeline_id"]), runs.run_of(row)
                found[row["run_id"]] = Known(
                    row["pipeline_id"],
                    row["due_at"],
                    run.status,
                    row["attempt"],
                    row["lost"],
                    row["lease_epoch"],
                    row["lease_until"],
                    row["cancel_requested_at"] is not None,
                    None if has_ended(run.status) else run.ending,  # of one that has ended nobody asks any more
                    cursor=kept[0].cursor["value"] if kept else None,
                    words=[
                        word["type"].removeprefix("run.").removesuffix(".v1")
                        for word in words
                        if word["subject"] == str(row["run_id"])
                    ],
                )
        return found


@pytest.mark.tries(1, 50)
async def test_only_who_holds_the_lease_writes_whatever_happens(world: World, seed: int) -> None:
    await run_machine(Leases, world, seed)
