"""What a load would do at its destination, looked up and not done, and by which road its rows would go."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.destination import (
    Begun,
    Destination,
    LoadRequest,
    Prepared,
    ReplaceStrategy,
    SchemaPolicy,
    WriteKind,
)
from dataaggregator.connector.source import ReadRequest
from dataaggregator.contracts.dry_run import Road
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.chunked import ends_of_chunks
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan
from dataaggregator.dataplane.cursors import go_on_from
from dataaggregator.dataplane.deletes import with_mark_field
from dataaggregator.dataplane.failures import at
from dataaggregator.dataplane.job import DryRunJob
from dataaggregator.dataplane.narrowing import narrowed
from dataaggregator.dataplane.opening import Opening, destination_names, without_parameters
from dataaggregator.dataplane.passes import cursor_keys, drop, read_request, undecoded
from dataaggregator.errors import Transient

LOOK_SECONDS = 8.0
NOBODY = UUID(int=0)


@dataclass(frozen=True)
class Drawn:
    """A definition with its parameters' values, as a run of it would go about it."""

    definition: ResolvedPipeline
    values: Mapping[str, Any]
    plan: Plan
    pipeline_id: UUID | None

    @property
    def names(self) -> list[str]:
        return destination_names(self.definition, self.values)

    def load(self, node: DestinationNode) -> LoadRequest:
        """As a run would ask for it, under an epoch before all others and a run that never was."""
        destination, reached = self.definition.destinations[node.index], self.plan.upstream([node.input])
        names = {one.source for one in self.plan.sources if one.name in reached}
        sources = {name: self.definition.sources[name] for name in names}
        return LoadRequest(
            run_id=NOBODY,
            pipeline_id=self.pipeline_id or NOBODY,
            stream=without_parameters(destination.stream, self.values),
            write=WriteKind(destination.write),
            epoch=0,
            replace_strategy=ReplaceStrategy(destination.replace_strategy),
            key=destination.key,
            version_field=destination.version_field,
            delete_when=destination.delete_when,
            schema_policy=SchemaPolicy(destination.schema_policy),
            source_streams=cursor_keys(sources, self.values),
        )

    def cursors(self, job: DryRunJob) -> dict[str, Cursor]:
        """Where its sources would be read on; where destinations differ, as the first of them has it."""
        found: dict[str, Cursor] = {}
        for node in reversed(self.plan.destinations):
            name = self.names[node.index]
            with at(name):
                found |= go_on_from(job, name, self.load(node), Begun({}))
        return found


@dataclass(frozen=True)
class Foreseen:
    prepared: Prepared
    road: Road


async def foresee(drawn: Drawn, node: DestinationNode, schema: pa.Schema, job: DryRunJob, opening: Opening) -> Foreseen:
    name, definition = drawn.names[node.index], drawn.definition.destinations[node.index]
    destination = opening.destination(job.connectors[definition.connector_id])
    with at(name):
        if definition.chunk_rows is not None:
            (one,) = drawn.definition.sources.values()
            ends_of_chunks(opening.source(job.connectors[one.connector_id]), drawn.definition, job.connectors)
        taken = schema if definition.delete_when is None else with_mark_field(schema, definition.delete_when)
        try:
            async with asyncio.timeout(LOOK_SECONDS) as limit:
                prepared = await destination.foresee(drawn.load(node), taken)
                return Foreseen(prepared, await _road(drawn, destination, job, opening))
        except TimeoutError as error:
            if not limit.expired():
                raise
            detail = f"{name} could not be looked at within {LOOK_SECONDS:g} seconds."
            raise Transient("probe-timeout", detail) from error


async def foresee_reads(
    drawn: Drawn, schemas: Mapping[str, pa.Schema], job: DryRunJob, opening: Opening
) -> Mapping[str, ReadRequest]:
    """By source, those that a run would not read whole."""
    given = drawn.definition.sources
    sources = {name: opening.source(job.connectors[one.connector_id]) for name, one in given.items()}
    requests = {name: read_request(one, drawn.values) for name, one in given.items()}
    try:
        async with asyncio.timeout(LOOK_SECONDS) as limit:
            return await narrowed(drawn.plan, sources, requests, schemas)
    except TimeoutError as error:
        if not limit.expired():
            raise
        detail = f"{', '.join(sources)} could not be looked at within {LOOK_SECONDS:g} seconds."
        raise Transient("probe-timeout", detail) from error


async def _road(drawn: Drawn, destination: Destination, job: DryRunJob, opening: Opening) -> Road:
    """By the very questions a run asks; what both ends agree upon is not begun."""
    plan, values = drawn.plan, drawn.values
    if plan.sandboxed:
        return "sandbox"
    if not plan.bare:
        return "decoded"
    (name, definition), (node,) = next(iter(drawn.definition.sources.items())), plan.destinations
    source = opening.source(job.connectors[definition.connector_id])
    taker = drawn.names[node.index], destination, drawn.load(node)
    copy = await undecoded((name, source, read_request(definition, values)), taker)
    if copy is None:
        return "decoded"
    await drop(copy)
    return "undecoded"
