"""Reads only the columns that something behind a source needs, where the source gives the same rows then."""

import dataclasses
from collections.abc import Mapping

import pyarrow as pa

from dataaggregator.connector.source import NarrowSource, ReadRequest, Source
from dataaggregator.dataplane.compile.columns import needed
from dataaggregator.dataplane.compile.plan import Plan
from dataaggregator.dataplane.failures import at


async def narrowed(
    plan: Plan, sources: Mapping[str, Source], requests: Mapping[str, ReadRequest], schemas: Mapping[str, pa.Schema]
) -> Mapping[str, ReadRequest]:
    """The reads, by source, that need not be of all columns; `schemas` are those of all columns, by source."""
    names = {node.name: node.source for node in plan.sources}
    wanted = needed(plan, {node: schemas[name] for node, name in names.items()})
    found = {}
    for node, name in names.items():
        request, schema = requests[name], schemas[name]
        columns = tuple(one for one in schema.names if one in wanted[node] or one == request.cursor_field)
        if len(columns) < len(schema.names) and await _narrow(name, sources[name], request):
            found[name] = dataclasses.replace(request, columns=columns)
    return found


async def _narrow(name: str, source: Source, request: ReadRequest) -> bool:
    with at(name):
        return isinstance(source, NarrowSource) and await source.narrow(request)


def of_columns(schema: pa.Schema, request: ReadRequest) -> pa.Schema:
    """What of a stream's schema this read gives."""
    if request.columns is None:
        return schema
    return pa.schema([schema.field(name) for name in request.columns]).with_metadata(schema.metadata)
