"""A cancel is obeyed in every state a run can be in: before, between, after, and before the run is even known."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

from dataaggregator.contracts.ledger import Ledger
from dataaggregator.contracts.run import RunCounts, RunQueued
from dataaggregator.dataplane.job import RunOutcome
from dataaggregator.db import Database
from dataaggregator.ids import new_id
from services.executor import commands
from services.executor.commands import AttemptEnd, Attempts, run_error
from services.executor.domain import CANCELLED, End, Ending, Status
from services.executor.store import cursors, runs
from services.executor.store.runs import Run

Claim = Callable[..., Awaitable[Run]]
RunNow = Callable[[UUID], Awaitable[Run]]
Said = Callable[[UUID], Awaitable[list[str]]]
Queue = Callable[..., Awaitable[RunQueued]]

AT = datetime(2026, 1, 2, tzinfo=UTC)


async def cancel(database: Database, workspace: UUID, run_id: UUID) -> None:
    async with database.transaction(workspace) as tx:
        await commands.request_cancel(tx, workspace, run_id, AT)


async def test_a_queued_run_is_cancelled_at_once(
    queue: Queue, database: Database, workspace: UUID, attempts: Attempts, said: Said
) -> None:
    queued = await queue()
    await cancel(database, workspace, queued.run_id)
    assert await said(queued.run_id) == ["run.cancelled.v1"]
    assert await attempts.claim({"executor": "test"}) is None


async def test_a_cancel_that_overtakes_its_run_is_kept_for_it(
    queue: Queue, database: Database, workspace: UUID, run_now: RunNow
) -> None:
    run_id = new_id()
    await cancel(database, workspace, run_id)
    await queue(run_id=run_id)
    assert (await run_now(run_id)).status is Status.CANCELLED


async def test_a_running_run_is_asked_and_ends_cancelled(
    claimed: Claim, database: Database, workspace: UUID, attempts: Attempts, said: Said
) -> None:
    run = await claimed()
    await cancel(database, workspace, run.run_id)
    async with database.platform() as tx:
        assert (await runs.what_next(tx, [run.run_id]))[1] == {run.run_id}
    assert await attempts.record(run, AttemptEnd(End.CANCELLED)) is not None
    assert await said(run.run_id) == ["run.started.v1", "run.cancelled.v1"]


async def test_an_attempt_that_fails_after_the_wish_is_not_retried(
    claimed: Claim, database: Database, workspace: UUID, attempts: Attempts, run_now: RunNow
) -> None:
    run = await claimed()
    await cancel(database, workspace, run.run_id)
    error = run_error("connector-unreachable", "refused", retryable=True)
    await attempts.record(run, AttemptEnd(End.FAILED, error))
    assert (await run_now(run.run_id)).status is Status.CANCELLED


async def test_a_run_that_committed_before_the_wish_was_heard_has_succeeded(
    claimed: Claim, database: Database, workspace: UUID, attempts: Attempts, run_now: RunNow
) -> None:
    run = await claimed()
    await cancel(database, workspace, run.run_id)
    outcome = RunOutcome(status="succeeded", ledger=Ledger(run_id=run.run_id, balanced=True), counts=RunCounts())
    await attempts.record(run, AttemptEnd(End.SUCCEEDED, None, outcome))
    assert (await run_now(run.run_id)).status is Status.SUCCEEDED


async def test_a_run_waiting_for_its_next_attempt_is_cancelled_at_once(
    claimed: Claim, database: Database, workspace: UUID, attempts: Attempts, run_now: RunNow
) -> None:
    run = await claimed()
    error = run_error("connector-unreachable", "refused", retryable=True)
    await attempts.record(run, AttemptEnd(End.FAILED, error))
    await cancel(database, workspace, run.run_id)
    assert (await run_now(run.run_id)).status is Status.CANCELLED


async def test_a_run_that_may_have_committed_is_cancelled_only_when_its_destinations_were_asked(
    claimed: Claim, database: Database, workspace: UUID, attempts: Attempts, run_now: RunNow
) -> None:
    for end in (End.LOST, End.HANDED_BACK):
        run = await claimed()
        await attempts.record(run, AttemptEnd(end, run_error("executor-lost", "gone", retryable=True)))
        await cancel(database, workspace, run.run_id)
        await cancel(database, workspace, run.run_id)
        assert (await run_now(run.run_id)).status is Status.QUEUED
        asking = await attempts.claim({"executor": "test"})
        assert asking is not None
        assert (asking.run_id, asking.ending) == (run.run_id, CANCELLED)
        async with database.platform() as tx:
            assert (await runs.what_next(tx, [run.run_id]))[1] == set()  # asking is not to be stopped
        await attempts.record(asking, AttemptEnd(End.CANCELLED))
        assert (await run_now(run.run_id)).status is Status.CANCELLED


async def test_a_run_ended_by_force_goes_on_by_asking(
    claimed: Claim, attempts: Attempts, run_now: RunNow, said: Said
) -> None:
    run = await claimed()
    late = Ending(Status.TIMED_OUT, run_error("run-timeout", "too long", retryable=False))
    await attempts.record(run, AttemptEnd(End.KILLED, run_error("run-killed", "ended", retryable=True), ending=late))
    asking = await attempts.claim({"executor": "test"})
    assert asking is not None
    assert asking.ending == late
    await attempts.record(asking, AttemptEnd(End.CANCELLED))
    assert (await run_now(run.run_id)).status is Status.TIMED_OUT
    assert await said(run.run_id) == [
        "run.started.v1",
        "run.attempt_failed.v1",
        "run.started.v1",
        "run.timed_out.v1",
    ]


async def test_an_ended_run_cannot_be_cancelled(
    claimed: Claim, database: Database, workspace: UUID, attempts: Attempts, said: Said
) -> None:
    run = await claimed()
    await attempts.record(run, AttemptEnd(End.FAILED, run_error("x", "y", retryable=False)))
    await cancel(database, workspace, run.run_id)
    assert await said(run.run_id) == ["run.started.v1", "run.failed.v1"]


async def test_another_workspace_cannot_cancel_it(claimed: Claim, database: Database, run_now: RunNow) -> None:
    run = await claimed()
    await cancel(database, new_id(), run.run_id)
    assert (await run_now(run.run_id)).cancel_requested_at is None


async def test_a_deleted_pipelines_runs_are_cancelled_and_its_cursors_forgotten(
    queue: Queue, database: Database, workspace: UUID, attempts: Attempts, run_now: RunNow
) -> None:
    pipeline_id = new_id()
    first, second = await queue(pipeline_id=pipeline_id), await queue(pipeline_id=pipeline_id)
    assert await attempts.claim({"executor": "test"}) is not None
    async with database.transaction(workspace) as tx:
        await commands.forget_pipeline(tx, workspace, pipeline_id, AT)
        assert await cursors.list_cursors(tx, workspace, pipeline_id) == []
    assert (await run_now(first.run_id)).cancel_requested_at is not None
    assert (await run_now(second.run_id)).status is Status.CANCELLED
