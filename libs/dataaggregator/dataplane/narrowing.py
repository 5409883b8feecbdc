"""Reads only the columns and rows that something behind a source needs, where the source does so exactly."""

import dataclasses
from collections.abc import Collection, Mapping

import pyarrow as pa

from dataaggregator.connector.conditions import Condition
from dataaggregator.connector.source import FilteringSource, NarrowSource, ReadRequest, Source
from dataaggregator.dataplane.compile.columns import needed
from dataaggregator.dataplane.compile.filters import first_filters
from dataaggregator.dataplane.compile.plan import Plan
from dataaggregator.dataplane.failures import at


async def narrowed(
    plan: Plan, sources: Mapping[str, Source], requests: Mapping[str, ReadRequest], schemas: Mapping[str, pa.Schema]
) -> Mapping[str, ReadRequest]:
    """The reads, by source, that need not be of all columns or rows; `schemas` are those of all columns, by source."""
    names = {node.name: node.source for node in plan.sources}
    by_node = {node: schemas[name] for node, name in names.items()}
    wanted, filters = needed(plan, by_node), first_filters(plan, by_node)
    found = {}
    for node, name in names.items():
        with at(name):
            request = await _of_columns(sources[name], requests[name], schemas[name], wanted[node])
            if node in filters:
                request = await _of_rows(sources[name], request, filters[node])
        if request != requests[name]:
            found[name] = request
    return found


async def _of_columns(source: Source, request: ReadRequest, schema: pa.Schema, wanted: Collection[str]) -> ReadRequest:
    columns = tuple(one for one in schema.names if one in wanted or one == request.cursor_field)
    fewer = len(columns) < len(schema.names)
    if fewer and isinstance(source, NarrowSource) and await source.narrow(request):
        return dataclasses.replace(request, columns=columns)
    return request


async def _of_rows(source: Source, request: ReadRequest, condition: Condition) -> ReadRequest:
    if isinstance(source, FilteringSource) and await source.filters(request, condition):
        return dataclasses.replace(request, condition=condition)
    return request


def of_columns(schema: pa.Schema, request: ReadRequest) -> pa.Schema:
    """What of a stream's schema this read gives."""
    if request.columns is None:
        return schema
    return pa.schema([schema.field(name) for name in request.columns]).with_metadata(schema.metadata)
