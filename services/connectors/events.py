"""Connectors, bus door: which pipelines use what, as the scheduler says."""

from collections.abc import Sequence

from dataaggregator.bus import Handler
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.pipeline import (
    PipelineBlocked,
    PipelineCreated,
    PipelineDeleted,
    PipelineLate,
    PipelinePaused,
    PipelineRecovered,
    PipelineResumed,
    PipelineUpdated,
)
from dataaggregator.db import Connection
from services.connectors import store


def handlers() -> Sequence[Handler]:
    return [
        Handler("connectors", PipelineCreated, _pipeline_created, ordered=True),
        Handler("connectors", PipelineUpdated, _pipeline_updated, ordered=True),
        Handler("connectors", PipelineDeleted, _pipeline_deleted, ordered=True),
        Handler("connectors", PipelinePaused, _state_changed, ordered=True),
        Handler("connectors", PipelineResumed, _state_changed, ordered=True),
        Handler("connectors", PipelineBlocked, _state_changed, ordered=True),
        Handler("connectors", PipelineLate, _state_changed, ordered=True),
        Handler("connectors", PipelineRecovered, _state_changed, ordered=True),
    ]


async def _pipeline_created(event: Event, tx: Connection) -> None:
    created = event.read(PipelineCreated)
    await store.set_uses(tx, event.workspace_id, created.pipeline_id, created.name, created.connector_ids)


async def _pipeline_updated(event: Event, tx: Connection) -> None:
    updated = event.read(PipelineUpdated)
    await store.set_uses(tx, event.workspace_id, updated.pipeline_id, updated.name, updated.connector_ids)


async def _pipeline_deleted(event: Event, tx: Connection) -> None:
    await store.remove_uses(tx, event.workspace_id, event.read(PipelineDeleted).pipeline_id)


async def _state_changed(event: Event, tx: Connection) -> None:
    """A paused, blocked or late pipeline uses what it used; the event only has its place in the order."""
