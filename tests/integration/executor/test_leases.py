"""A run is worked on by one executor at a time, and whoever lost its lease writes nothing."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import pytest

from dataaggregator.clock import SystemClock
from dataaggregator.contracts.ledger import Ledger
from dataaggregator.contracts.run import RunCounts, RunQueued
from dataaggregator.dataplane.job import KnownCursor, RunOutcome
from dataaggregator.db import Database
from dataaggregator.telemetry import metrics
from services.executor import reaper
from services.executor.commands import AttemptEnd, Attempts, run_error
from services.executor.domain import LOSS_LIMIT, End, Status
from services.executor.lease import LeaseKeeper, LeaseTimes
from services.executor.reaper import Reaper, ReaperTimes
from services.executor.store import cursors, logs, results
from services.executor.store.logs import NewLine
from services.executor.store.runs import Run
from services.executor.whereabouts import identify

Claim = Callable[..., Awaitable[Run]]
RunNow = Callable[[UUID], Awaitable[Run]]
Said = Callable[[UUID], Awaitable[list[str]]]
Queue = Callable[..., Awaitable[RunQueued]]

OWNER: dict[str, object] = {"executor": "test"}


def an_outcome(run: Run, status: str = "succeeded") -> RunOutcome:
    return RunOutcome.model_validate(
        {
            "status": status,
            "ledger": Ledger(run_id=run.run_id, balanced=True),
            "counts": RunCounts(rows_read=3, rows_written=3),
            "cursors": [KnownCursor(destination="warehouse", source="a", cursor={"value": 7})],
        }
    )


async def expire(database: Database, run: Run) -> None:
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET lease_until = now() - interval '1 s' WHERE run_id = $1", run.run_id)


def a_reaper(database: Database) -> Reaper:
    return Reaper(database, ReaperTimes(heartbeat_seconds=0.0, queue_limit_seconds=3600.0))


async def test_a_run_asked_for_twice_is_accepted_once(queue: Queue, said: Said, attempts: Attempts) -> None:
    first = await queue()
    await queue(again=first)
    assert await attempts.claim(OWNER) is not None
    assert await attempts.claim(OWNER) is None
    assert await said(first.run_id) == ["run.started.v1"]


async def test_of_many_executors_each_run_is_claimed_by_one(queue: Queue, attempts: Attempts) -> None:
    for _ in range(8):
        await queue()
    claims = await asyncio.gather(*(attempts.claim(OWNER) for _ in range(20)))
    taken = [run for run in claims if run is not None]
    while (late := await attempts.claim(OWNER)) is not None:
        taken.append(late)
    assert len({run.run_id for run in taken}) == len(taken) == 8
    assert len({run.epoch for run in taken}) == 8


async def test_a_later_epoch_is_always_greater(claimed: Claim, attempts: Attempts, database: Database) -> None:
    run = await claimed()
    await expire(database, run)
    await a_reaper(database).reap_expired()
    again = await attempts.claim(OWNER)
    assert again is not None
    assert again.epoch > run.epoch
    assert again.attempt == 2


async def test_a_cursor_is_never_taken_back_by_an_older_epoch(claimed: Claim, database: Database) -> None:
    """Two runs of one pipeline, such as one that is recovered late: the newer lease knows where reading goes on."""
    older = await claimed()
    newer = await claimed(pipeline_id=older.pipeline_id)
    async with database.transaction(older.workspace_id) as tx:
        for run, value in ((newer, 9), (older, 4)):
            cursor = KnownCursor(destination="warehouse", source="a", cursor={"value": value})
            await cursors.save_cursors(tx, run, [cursor])
        [kept] = await cursors.list_cursors(tx, older.workspace_id, older.pipeline_id)
    assert (kept.cursor, kept.run_id) == ({"value": 9}, newer.run_id)


async def test_a_late_writer_writes_nothing(
    claimed: Claim, attempts: Attempts, database: Database, run_now: RunNow, said: Said
) -> None:
    run = await claimed()
    await expire(database, run)
    await a_reaper(database).reap_expired()
    successor = await attempts.claim(OWNER)
    assert successor is not None

    assert await attempts.record(run, AttemptEnd(End.SUCCEEDED, None, an_outcome(run))) is None
    await attempts.record_cursors(run, [KnownCursor(destination="warehouse", source="a", cursor={"value": 1})])
    async with database.transaction(run.workspace_id) as tx:
        line = NewLine(1, run.queued.queued_at, "info", "too late", {})
        await logs.add_lines(tx, run.workspace_id, [logs.RunLines(run.run_id, run.epoch, [line])])
        told, _ = await logs.list_lines(tx, run.workspace_id, run.run_id, level="warning", after=0, limit=9)
        assert [(line.attempt, line.message) for line in told] == [(1, reaper.GAP)]
        assert await logs.count_lines(tx, run.run_id) == 1
        assert await cursors.list_cursors(tx, run.workspace_id, run.queued.pipeline_id) == []
        assert await results.find_ledger(tx, run.workspace_id, run.run_id) is None
    assert (await run_now(run.run_id)).status is Status.RUNNING

    assert await attempts.record(successor, AttemptEnd(End.SUCCEEDED, None, an_outcome(run))) is not None
    assert (await run_now(run.run_id)).status is Status.SUCCEEDED
    assert await said(run.run_id) == [
        "run.started.v1",
        "run.attempt_failed.v1",
        "run.started.v1",
        "run.succeeded.v1",
    ]


async def test_an_outcome_told_twice_is_stored_once(claimed: Claim, attempts: Attempts, said: Said) -> None:
    run = await claimed()
    ended = AttemptEnd(End.SUCCEEDED, None, an_outcome(run))
    assert await attempts.record(run, ended) is not None
    assert await attempts.record(run, ended) is None
    assert (await said(run.run_id)).count("run.succeeded.v1") == 1


async def test_an_executor_that_is_provably_gone_is_succeeded_before_its_lease_ends(
    queue: Queue, attempts: Attempts, database: Database, run_now: RunNow
) -> None:
    await queue()
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    identity = identify(process.pid)
    assert identity is not None
    run = await attempts.claim({"executor": "dead", **identity.as_json()})
    assert run is not None

    await a_reaper(database).take_over_from_the_dead()
    assert (await run_now(run.run_id)).status is Status.RUNNING
    process.kill()
    process.communicate()
    await a_reaper(database).take_over_from_the_dead()
    now = await run_now(run.run_id)
    assert (now.status, now.attempt, now.lost) == (Status.QUEUED, 2, 1)


async def test_a_lost_executors_run_process_is_ended(claimed: Claim, database: Database, run_now: RunNow) -> None:
    run = await claimed()
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, start_new_session=True
    )
    identity = identify(orphan.pid)
    assert identity is not None
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET process = $2 WHERE run_id = $1", run.run_id, identity.as_json())
    await expire(database, run)
    await a_reaper(database).reap_expired()
    assert orphan.wait(10) == -9
    assert orphan.stdin is not None
    orphan.stdin.close()


async def test_a_run_that_kills_its_executors_is_given_up(
    claimed: Claim, attempts: Attempts, database: Database, run_now: RunNow, said: Said
) -> None:
    run: Run | None = await claimed()
    assert run is not None
    for _ in range(LOSS_LIMIT):
        assert run is not None
        await expire(database, run)
        await a_reaper(database).reap_expired()
        async with database.platform() as tx:
            await tx.execute("UPDATE executor.runs SET due_at = now() WHERE status = 'queued'")
        run_id, run = run.run_id, await attempts.claim(OWNER)
    assert run is None
    assert (await run_now(run_id)).status is Status.FAILED
    assert (await said(run_id))[-1] == "run.failed.v1"


async def test_leases_are_not_judged_by_a_database_that_was_just_slow(
    claimed: Claim, database: Database, run_now: RunNow
) -> None:
    run = await claimed()
    await expire(database, run)
    await Reaper(database, ReaperTimes(heartbeat_seconds=60.0, queue_limit_seconds=3600.0)).look()
    assert (await run_now(run.run_id)).status is Status.RUNNING
    await a_reaper(database).look()
    assert (await run_now(run.run_id)).status is Status.QUEUED


@dataclass
class GivenTime:
    """Stands still unless it is moved."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


async def test_leases_are_not_judged_after_a_pause_of_the_reaper_nor_by_a_slow_answer(
    claimed: Claim, database: Database, run_now: RunNow, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, ping = GivenTime(), database.ping
    monkeypatch.setattr(reaper, "time", given)

    async def slow() -> None:
        await ping()
        given.now += 1.5

    run = await claimed()
    await expire(database, run)
    at_work = a_reaper(database)
    given.now += 60.0
    await at_work.look()
    assert (await run_now(run.run_id)).status is Status.RUNNING
    monkeypatch.setattr(database, "ping", slow)
    await at_work.look()
    assert (await run_now(run.run_id)).status is Status.RUNNING
    monkeypatch.setattr(database, "ping", ping)
    await at_work.look()
    assert (await run_now(run.run_id)).status is Status.QUEUED


async def test_a_heartbeat_prolongs_the_lease_and_an_overtaken_one_is_told(
    claimed: Claim, attempts: Attempts, database: Database
) -> None:
    first, second = await claimed(), await claimed()
    lost: list[UUID] = []

    def lose(run: Run) -> Callable[[], None]:
        return lambda: lost.append(run.run_id)

    keeper = LeaseKeeper(database, LeaseTimes(60.0, 15.0, 45.0))
    for run in (first, second):
        keeper.hold(run.run_id, run.epoch, time.monotonic(), lose(run))
    await expire(database, second)
    await a_reaper(database).reap_expired()
    again = await attempts.claim(OWNER)  # the run is at work once more, under another's epoch
    assert again is not None
    assert again.run_id == second.run_id
    connection = await database.connect("platform")
    try:
        await keeper.renew(connection)
    finally:
        await connection.close()
    assert lost == [second.run_id]


async def test_an_executor_that_cannot_renew_fences_itself_before_its_lease_ends(
    claimed: Claim, database: Database
) -> None:
    run = await claimed()
    lost = asyncio.Event()
    keeper = LeaseKeeper(database, LeaseTimes(lease_seconds=60.0, heartbeat_seconds=30.0, fence_seconds=0.2))
    keeper.hold(run.run_id, run.epoch, time.monotonic(), lost.set)
    loop = asyncio.create_task(keeper.run())
    await asyncio.wait_for(lost.wait(), 5)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_a_run_that_nobody_begins_is_timed_out(queue: Queue, database: Database, said: Said) -> None:
    queued = await queue()
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET due_at = now() - interval '2 hours'")
    await a_reaper(database).time_out_waiting()
    assert await said(queued.run_id) == ["run.timed_out.v1"]


async def test_the_limit_of_the_queue_counts_from_when_a_run_was_asked_for_whatever_was_started_anew_since(
    queue: Queue, database: Database, said: Said, run_now: RunNow
) -> None:
    asked_at = SystemClock().now() - timedelta(hours=2)
    late, new = await queue(queued_at=asked_at), await queue(queued_at=asked_at + timedelta(hours=1, minutes=30))
    await a_reaper(database).look()
    assert await said(late.run_id) == ["run.timed_out.v1"]
    assert (await run_now(new.run_id)).status is Status.QUEUED


@pytest.mark.parametrize("begun", [False, True])
async def test_a_run_that_is_given_back_waits_on_where_it_was_unless_its_attempt_had_begun(
    begun: bool, claimed: Claim, attempts: Attempts, database: Database, run_now: RunNow
) -> None:
    run = await claimed(queued_at=SystemClock().now() - timedelta(hours=2))
    assert await attempts.record(run, AttemptEnd(End.HANDED_BACK, begun=begun)) is not None
    await a_reaper(database).look()
    assert (await run_now(run.run_id)).status is (Status.QUEUED if begun else Status.TIMED_OUT)


@pytest.mark.parametrize(("slow_seconds", "ended"), [(60.0, 5), (0.0, 2)])
async def test_a_burst_that_nobody_begins_is_timed_out_in_one_look_unless_leases_would_wait_for_it(
    slow_seconds: float, ended: int, queue: Queue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "OVERDUE_AT_ONCE", 2)
    for _ in range(5):
        await queue()
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET due_at = now() - interval '2 hours'")
    await Reaper(database, ReaperTimes(0.0, 3600.0, slow_seconds=slow_seconds)).time_out_waiting()
    async with database.platform() as tx:
        assert await tx.fetchval("SELECT count(*) FROM executor.runs WHERE status = 'timed_out'") == ended
        assert await tx.fetchval("SELECT count(*) FROM executor.outbox WHERE type = 'run.timed_out.v1'") == ended


async def test_a_failed_attempt_waits_by_its_policy(claimed: Claim, attempts: Attempts, run_now: RunNow) -> None:
    run = await claimed()
    error = run_error("connector-unreachable", "refused", retryable=True)
    verdict = await attempts.record(run, AttemptEnd(End.FAILED, error))
    assert verdict is not None
    assert verdict.retry_in_seconds is not None
    assert 5.0 <= verdict.retry_in_seconds <= 10.0
    assert await attempts.claim(OWNER) is None
    assert (await run_now(run.run_id)).attempt == 2


async def test_many_are_claimed_at_once_and_never_more_than_asked_for(
    queue: Queue, said: Said, attempts: Attempts, database: Database
) -> None:
    queued = [(await queue()).run_id for _ in range(5)]
    looks = await asyncio.gather(*(attempts.look(OWNER, 2, ()) for _ in range(2)))
    assert [len(one.begun) for one in looks] == [2, 2]
    last = await attempts.look(OWNER, 2, [])
    assert [len(last.begun), last.due_in_seconds] == [1, None]
    taken = [begun.run for one in (*looks, last) for begun in one.begun]
    assert sorted(run.run_id for run in taken) == sorted(queued)
    assert len({run.epoch for run in taken}) == 5
    for run in taken:
        assert await said(run.run_id) == ["run.started.v1"]
    async with database.platform() as tx:
        rows = await tx.fetch("SELECT run_id, lease_epoch FROM executor.attempts")
    assert {(row["run_id"], row["lease_epoch"]) for row in rows} == {(run.run_id, run.epoch) for run in taken}


async def test_the_last_lines_of_a_log_are_stored_with_the_end_and_only_under_the_lease(
    claimed: Claim, attempts: Attempts, database: Database
) -> None:
    run = await claimed()
    line = NewLine(1, SystemClock().now(), "info", "the end", {"rows": 3})
    stale = replace(run, lease_epoch=run.epoch - 1)
    assert await attempts.record(stale, AttemptEnd(End.SUCCEEDED, outcome=an_outcome(run)), [line]) is None
    assert await _lines(database, run) == []
    assert await attempts.record(run, AttemptEnd(End.SUCCEEDED, outcome=an_outcome(run)), [line]) is not None
    assert await _lines(database, run) == [("the end", {"rows": 3})]


async def _lines(database: Database, run: Run) -> list[tuple[str, dict[str, int]]]:
    async with database.platform() as tx:
        rows = await tx.fetch("SELECT message, fields FROM executor.logs WHERE run_id = $1 ORDER BY line", run.run_id)
    return [(row["message"], row["fields"]) for row in rows]


@pytest.mark.parametrize(("share", "seen"), [(1e-9, 0), (1e9, 1)])
async def test_what_waits_is_counted_no_oftener_than_counting_may_cost(
    share: float, seen: int, queue: Queue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "COUNTING_SHARE", share)
    one = a_reaper(database)
    await one.look()
    await queue()
    await one.look()
    assert f'_runs_in_state{{state="queued"}} {seen}.0' in metrics.exposition().decode()
