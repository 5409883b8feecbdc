"""A source of the rows of one slot of a backfill, and of no others."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from uuid import UUID, uuid5

import pyarrow as pa

from dataaggregator.connector.source import Interval, IntervalSource, NarrowSource, ReadRequest, Source, StreamInfo
from dataaggregator.contracts.pipeline import ResolvedSource
from dataaggregator.dataplane.batch import Batch
from dataaggregator.dataplane.job import BackfilledSlot
from dataaggregator.errors import Invalid


def slot_of(backfill: UUID, start: datetime, end: datetime) -> BackfilledSlot:
    """Each run of the slot makes the same of it."""
    return BackfilledSlot(id=uuid5(backfill, start.isoformat()), start=start, end=end)


class RowsOfSlot:
    """Stands in the place of its source. Raises Invalid (`interval-not-read`) where this cannot be read so."""

    def __init__(self, source: Source, slot: BackfilledSlot, definition: ResolvedSource) -> None:
        if not isinstance(source, IntervalSource):
            detail = f"Sources of type {definition.connector_type} cannot be read by an interval of their cursor."
            raise Invalid("interval-not-read", f"{detail} Run the pipeline with full_refresh.")
        self._source = source
        self._interval = Interval(slot.start, slot.end)

    async def discover(self, pattern: str | None = None) -> Sequence[StreamInfo]:
        return await self._source.discover(pattern)

    async def schema(self, request: ReadRequest) -> pa.Schema:
        return await self._source.schema(request)

    def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        return self._source.read_interval(request, self._interval)

    async def narrow(self, request: ReadRequest) -> bool:
        return isinstance(self._source, NarrowSource) and await self._source.narrow(request)

    async def close(self) -> None:
        await self._source.close()
