"""Pipelines: what the names in a definition stand for now, looked up and held for the caller's transaction."""

from uuid import UUID

from dataaggregator.contracts.pipeline import PipelineDefinition, ResolvedPipeline
from dataaggregator.db import Connection
from services.scheduler.pipelines import connectors
from services.scheduler.pipelines.domain import (
    Connector,
    Material,
    Pipeline,
    connectors_named,
    resolve,
    transformations_named,
)
from services.scheduler.transformations import store as transformations


async def resolved(tx: Connection, pipeline: Pipeline) -> ResolvedPipeline:
    """A saved pipeline with what it uses in the newest version; connectors as understood when it was saved."""
    definition = pipeline.definition
    known = await connectors.used(tx, pipeline.workspace_id, pipeline.id)
    found = await transformations.named(tx, pipeline.workspace_id, transformations_named(definition))
    return resolve(definition, Material(known, {name: saved.definition for name, saved in found.items()}))


async def checked(
    tx: Connection, workspace: UUID, definition: PipelineDefinition, pipeline: UUID | None = None
) -> tuple[dict[str, Connector], list[UUID]]:
    """The connectors (as written) and transformations a definition about to be saved uses; raises Invalid."""
    known = await connectors.named(tx, workspace, connectors_named(definition), pipeline)
    found = await transformations.named(tx, workspace, transformations_named(definition))
    resolve(definition, Material(known, {name: saved.definition for name, saved in found.items()}))
    return known, [saved.id for saved in found.values()]
