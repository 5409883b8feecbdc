"""A source of rejected rows: those an earlier run set aside, with the types they had."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.connector.source import ReadRequest, StreamInfo
from dataaggregator.dataplane.batch import Batch
from dataaggregator.dataplane.job import ReplayedRows
from dataaggregator.dataplane.rowgroups import rows_at_once
from dataaggregator.errors import NotFound, Permanent


class RejectedRows:
    """Every row the index speaks of, or none: `rejected-rows-gone` where a file is not there any more."""

    def __init__(self, rows: ReplayedRows) -> None:
        self._paths = [Path(rows.folder) / file for file in rows.files]
        self._rows = rows.rows

    async def discover(self, pattern: str | None = None) -> Sequence[StreamInfo]:
        """There is nothing to choose."""
        del pattern
        return ()

    async def schema(self, request: ReadRequest) -> pa.Schema:
        del request
        with _opened(self._paths[0]) as file:
            return pa.schema(list(file.schema_arrow.field("row").type))

    async def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        read = 0
        for path in self._paths:
            with _opened(path) as file:
                batches = file.iter_batches(rows_at_once(file, request.batch_rows))
                while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                    held = batch.column("row")
                    assert isinstance(held, pa.StructArray)  # noqa: S101 (the index says so)
                    read += len(held)
                    yield Batch(pa.RecordBatch.from_struct_array(held), read=len(held))
        if read != self._rows:
            raise Permanent("unbalanced", f"{read} rejected rows were found where {self._rows} were set aside.")

    async def close(self) -> None:
        """Nothing is held open."""


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise NotFound("rejected-rows-gone", "The rejected rows are no longer kept, or not on this machine.") from error
