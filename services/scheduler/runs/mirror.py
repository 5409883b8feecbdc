"""Runs, commands: the mirror follows the executor's words; what it has heard already, or too late, changes nothing."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from dataaggregator.contracts.connector import DestinationDifference
from dataaggregator.contracts.run import RunAttemptFailed, RunEnded, RunStarted
from dataaggregator.db import Connection
from services.scheduler.backfills import commands as backfills
from services.scheduler.pipelines import store as pipelines
from services.scheduler.pipelines import upstreams, watch
from services.scheduler.pipelines.commands import block
from services.scheduler.pipelines.domain import Status
from services.scheduler.runs import store
from services.scheduler.runs.commands import hand_over_next
from services.scheduler.runs.domain import Fact, Outcome, Run

Step = Callable[[Run], Run]


async def started(tx: Connection, workspace: UUID, told: Sequence[RunStarted]) -> None:
    await _follow(tx, workspace, {one.run_id: _started(one) for one in told})


async def attempt_failed(tx: Connection, workspace: UUID, told: RunAttemptFailed, at: datetime) -> None:
    await _follow(tx, workspace, {told.run_id: lambda run: run.attempt_failed(told.error, at, told.retry_at)})


async def ended(tx: Connection, workspace: UUID, fact: Fact, told: Sequence[RunEnded]) -> None:
    """The end of a run is the turn of the next one of its pipeline, and of those that come after; one transaction."""
    await pipelines.lock_all(tx, workspace, [one.pipeline_id for one in told])
    followed = await _follow(tx, workspace, {one.run_id: _finished(fact, one) for one in told})
    await upstreams.ended(tx, workspace, followed)
    await backfills.ended(tx, workspace, followed)
    for run in followed:
        await _spend_approvals(tx, run)
        await _block_what_waits(tx, run)
    free = [run.pipeline_id for run in followed]
    if fact is Fact.SUCCEEDED:
        await watch.look_again(tx, workspace, free)
    await hand_over_next(tx, workspace, list(dict.fromkeys(free)))


async def _spend_approvals(tx: Connection, run: Run) -> None:
    """Where the run has loaded, what it was allowed to change is changed."""
    loaded = {(one.connector, one.stream) for one in run.destinations if one.status == "succeeded"}
    allowed = map(DestinationDifference.model_validate, run.definition.get("approved") or ())
    carried = [one for one in allowed if (one.connector, one.stream) in loaded]
    pipeline = await pipelines.find(tx, run.workspace_id, run.pipeline_id) if carried else None
    if pipeline is not None and (left := pipeline.approved_behind(carried)) != pipeline.approved:
        await pipelines.set_approved(tx, pipeline, left, pipeline.waiting)


async def _block_what_waits(tx: Connection, run: Run) -> None:
    """A pipeline that was changed since, or that somebody has paused, finds out with its next run; what was approved
    since waits no more."""
    waiting = [
        DestinationDifference(connector=one.connector, stream=one.stream, **difference.model_dump())
        for one in run.destinations
        for difference in one.waiting
    ]
    if not waiting:
        return
    pipeline = await pipelines.find(tx, run.workspace_id, run.pipeline_id)
    if pipeline is None or pipeline.status is Status.PAUSED or pipeline.version != run.pipeline_version:
        return
    waiting = [one for one in waiting if one not in pipeline.approved]
    where = ", ".join(dict.fromkeys(one.stream for one in waiting))
    if waiting:
        await block(tx, pipeline, f"the rows differ from {where}, which waits for approval", waiting)


async def _follow(tx: Connection, workspace: UUID, steps: Mapping[UUID, Step]) -> Sequence[Run]:
    """Take each run's step; the answer is those that took it, for one that has ended takes none."""
    runs = await store.lock_all(tx, workspace, list(steps))
    followed = [steps[run.id](run) for run in runs.values() if not run.ended]
    await store.save_all(tx, followed)
    return followed


def _started(told: RunStarted) -> Step:
    return lambda run: run.started(told.attempt, told.executor, told.started_at)


def _finished(fact: Fact, told: RunEnded) -> Step:
    outcome = Outcome(told.counts, told.balanced, told.destinations, told.warnings, told.error)
    return lambda run: run.finished(fact, outcome, told.finished_at)
