"""Pipelines, bus door: what the connectors service says."""

from collections.abc import Sequence

from dataaggregator.bus import Handler
from dataaggregator.contracts.connector import ConnectorCreated, ConnectorDeleted, ConnectorTested, ConnectorUpdated
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection
from services.scheduler.pipelines import connectors, store
from services.scheduler.pipelines.commands import block
from services.scheduler.pipelines.domain import Status


def handlers() -> Sequence[Handler]:
    return [
        Handler("scheduler", ConnectorCreated, _connector_created, ordered=True),
        Handler("scheduler", ConnectorUpdated, _connector_updated, ordered=True),
        Handler("scheduler", ConnectorDeleted, _connector_deleted, ordered=True),
        Handler("scheduler", ConnectorTested, _connector_tested, ordered=True),
    ]


async def _connector_created(event: Event, tx: Connection) -> None:
    await connectors.save(tx, event.workspace_id, event.read(ConnectorCreated))


async def _connector_updated(event: Event, tx: Connection) -> None:
    await connectors.save(tx, event.workspace_id, event.read(ConnectorUpdated))


async def _connector_deleted(event: Event, tx: Connection) -> None:
    """The connectors service refuses to delete a used one; a pipeline saved in that very moment is blocked."""
    deleted = event.read(ConnectorDeleted)
    for pipeline in await store.using_connector(tx, event.workspace_id, deleted.connector_id):
        if pipeline.status is not Status.BLOCKED:
            await block(tx, pipeline, f"the connector {deleted.name!r} was deleted")
    await connectors.remove(tx, event.workspace_id, deleted.connector_id)


async def _connector_tested(event: Event, tx: Connection) -> None:
    """Changes nothing here; it only has its place in the order of what is said about a connector."""
