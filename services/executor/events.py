"""events: what the executor listens to; the table first, then one call a message."""

from collections.abc import Sequence

from dataaggregator.bus import Handler
from dataaggregator.bus.handler import alone
from dataaggregator.contracts.connector import ConnectorCreated, ConnectorDeleted, ConnectorUpdated
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.pipeline import PipelineDeleted
from dataaggregator.contracts.run import RunCancelRequested, RunQueued
from dataaggregator.db import Connection
from services.executor import commands, limiting
from services.executor.limiting import WorkspaceLimits
from services.executor.store.asked import Asked
from services.executor.store.lanes import Limit


def handlers(limits: WorkspaceLimits) -> list[Handler]:
    async def runs_queued(events: Sequence[Event], tx: Connection) -> None:
        """Only ids are read here: what else cannot be understood must end the run, not hide in the parked messages."""
        await limits.expect(tx, events[0].workspace_id)
        asked = {Asked.read(event.data).run_id: (event.data, event.traceparent) for event in events}
        await commands.accept_all(tx, events[0].workspace_id, asked)

    return [
        Handler("executor", RunQueued, alone(runs_queued), handle_all=runs_queued),
        Handler("executor", RunCancelRequested, run_cancel_requested),
        Handler("executor", PipelineDeleted, pipeline_deleted),
        Handler("executor", ConnectorCreated, connector_created),
        Handler("executor", ConnectorUpdated, connector_updated),
        Handler("executor", ConnectorDeleted, connector_deleted),
    ]


async def run_cancel_requested(event: Event, tx: Connection) -> None:
    wish = event.read(RunCancelRequested)
    await commands.request_cancel(tx, event.workspace_id, wish.run_id, wish.requested_at)


async def pipeline_deleted(event: Event, tx: Connection) -> None:
    deleted = event.read(PipelineDeleted)
    await commands.forget_pipeline(tx, event.workspace_id, deleted.pipeline_id, event.time)


async def connector_created(event: Event, tx: Connection) -> None:
    await _connector_told(event, event.read(ConnectorCreated), tx)


async def connector_updated(event: Event, tx: Connection) -> None:
    await _connector_told(event, event.read(ConnectorUpdated), tx)


async def _connector_told(event: Event, told: ConnectorCreated | ConnectorUpdated, tx: Connection) -> None:
    most = told.concurrency
    limit = Limit(told.connector_id, event.workspace_id, "connector", told.name, most, most, event.sequence)
    await limiting.change_connector(tx, limit)


async def connector_deleted(event: Event, tx: Connection) -> None:
    await limiting.forget_connector(tx, event.read(ConnectorDeleted).connector_id)
