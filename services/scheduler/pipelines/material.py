"""Pipelines: what the names in a definition stand for now, looked up and held for the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

from dataaggregator.contracts.pipeline import PipelineDefinition, ResolvedPipeline
from dataaggregator.db import Connection
from services.scheduler.pipelines import connectors, upstreams
from services.scheduler.pipelines.domain import (
    Connector,
    Material,
    Pipeline,
    connectors_named,
    in_a_circle,
    pipelines_named,
    resolve,
    transformations_named,
)
from services.scheduler.transformations import store as transformations


async def resolved(tx: Connection, pipeline: Pipeline) -> ResolvedPipeline:
    """A saved pipeline with what it uses in the newest version; connectors as understood when it was saved."""
    definition = pipeline.definition
    known = await connectors.used(tx, pipeline.workspace_id, pipeline.id)
    found = await transformations.named(tx, pipeline.workspace_id, transformations_named(definition))
    made = resolve(definition, Material(known, {name: saved.definition for name, saved in found.items()}))
    return made.model_copy(update={"approved": pipeline.approved}) if pipeline.approved else made


@dataclass(frozen=True)
class Used:
    """What a definition that is about to be saved uses: connectors and pipelines as written, transformations; and what
    a run would carry then."""

    definition: ResolvedPipeline
    connectors: Mapping[str, Connector]
    transformations: Sequence[UUID]
    pipelines: Mapping[str, UUID]


async def checked(
    tx: Connection, workspace: UUID, definition: PipelineDefinition, pipeline: UUID | None = None
) -> Used:
    """Raises Invalid."""
    used = await looked_up(tx, workspace, definition, pipeline)
    if pipeline is not None:
        await no_circle(tx, workspace, definition, pipeline, used)
    return used


async def looked_up(
    tx: Connection,
    workspace: UUID,
    definition: PipelineDefinition,
    pipeline: UUID | None = None,
    proposed: Mapping[str, Connector] = MappingProxyType({}),
) -> Used:
    """`proposed` connectors count as if they were saved. Raises Invalid."""
    names = connectors_named(definition)
    known = await connectors.named(tx, workspace, names, pipeline)
    known |= {name: proposed[name] for name in names & proposed.keys()}
    found = await transformations.named(tx, workspace, transformations_named(definition))
    others = await _others(tx, workspace, definition, pipeline)
    whole = resolve(definition, Material(known, {name: saved.definition for name, saved in found.items()}, others))
    return Used(whole, known, [saved.id for saved in found.values()], others)


async def no_circle(
    tx: Connection, workspace: UUID, definition: PipelineDefinition, pipeline: UUID, used: Used
) -> None:
    """Raises Invalid if one that it comes after comes after it."""
    if used.pipelines and await upstreams.leads_to(tx, workspace, used.pipelines.values(), pipeline):
        raise in_a_circle(definition)


async def _others(
    tx: Connection, workspace: UUID, definition: PipelineDefinition, pipeline: UUID | None
) -> dict[str, UUID]:
    names = pipelines_named(definition)
    if not names:
        return {}
    await upstreams.hold(tx, workspace)
    return await upstreams.named(tx, workspace, names, pipeline)
