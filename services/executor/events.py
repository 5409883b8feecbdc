"""events: what the executor listens to; the table first, then one call a message."""

from collections.abc import Sequence

from dataaggregator.bus import Handler
from dataaggregator.bus.handler import alone
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.pipeline import PipelineDeleted
from dataaggregator.contracts.run import RunCancelRequested, RunQueued
from dataaggregator.db import Connection
from services.executor import commands
from services.executor.store.asked import Asked


def handlers() -> list[Handler]:
    return [
        Handler("executor", RunQueued, alone(runs_queued), handle_all=runs_queued),
        Handler("executor", RunCancelRequested, run_cancel_requested),
        Handler("executor", PipelineDeleted, pipeline_deleted),
    ]


async def runs_queued(events: Sequence[Event], tx: Connection) -> None:
    """Only ids are read here: what else cannot be understood must end the run, not hide in the parked messages."""
    asked = {Asked.read(event.data).run_id: (event.data, event.traceparent) for event in events}
    await commands.accept_all(tx, events[0].workspace_id, asked)


async def run_cancel_requested(event: Event, tx: Connection) -> None:
    wish = event.read(RunCancelRequested)
    await commands.request_cancel(tx, event.workspace_id, wish.run_id, wish.requested_at)


async def pipeline_deleted(event: Event, tx: Connection) -> None:
    deleted = event.read(PipelineDeleted)
    await commands.forget_pipeline(tx, event.workspace_id, deleted.pipeline_id, event.time)
