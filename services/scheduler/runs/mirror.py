"""Runs, commands: the mirror follows the executor's words; what it has heard already, or too late, changes nothing."""

from datetime import datetime
from uuid import UUID

from dataaggregator.contracts.run import RunAttemptFailed, RunEnded, RunStarted
from dataaggregator.db import Connection
from services.scheduler.pipelines import store as pipelines
from services.scheduler.runs import store
from services.scheduler.runs.commands import hand_over_next
from services.scheduler.runs.domain import Fact, Outcome


async def started(tx: Connection, workspace: UUID, told: RunStarted) -> None:
    run = await store.get(tx, workspace, told.run_id, lock=True)
    if not run.ended:
        await store.save(tx, run.started(told.attempt, told.executor, told.started_at))


async def attempt_failed(tx: Connection, workspace: UUID, told: RunAttemptFailed, at: datetime) -> None:
    run = await store.get(tx, workspace, told.run_id, lock=True)
    if not run.ended:
        await store.save(tx, run.attempt_failed(told.error, at, told.retry_at))


async def ended(tx: Connection, workspace: UUID, fact: Fact, told: RunEnded) -> None:
    """The end of a run is the turn of the next one of its pipeline, in the same transaction."""
    await pipelines.lock(tx, workspace, told.pipeline_id)
    run = await store.get(tx, workspace, told.run_id, lock=True)
    if run.ended:
        return
    outcome = Outcome(told.counts, told.balanced, told.destinations, told.warnings, told.error)
    await store.save(tx, run.finished(fact, outcome, told.finished_at))
    await hand_over_next(tx, workspace, run.pipeline_id)
