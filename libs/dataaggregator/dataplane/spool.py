"""The spool: rows kept as Parquet in the run folder, so that every destination and every attempt gets the same."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.rowgroups import rows_at_once

BATCH_ROWS = 65_536


class SpoolWriter:
    """The rows of one node. The file counts only when the pass that made it was recorded as complete."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        # Without dictionaries the file says how large its rows are in memory, and so how many to read at once.
        options: dict[str, Any] = {"compression": "lz4", "use_dictionary": False, "write_page_checksum": True}
        self._writer = pq.ParquetWriter(path, schema, **options)
        self.rows = 0

    async def write(self, batch: pa.RecordBatch) -> None:
        await asyncio.to_thread(self._writer.write_batch, batch)
        self.rows += batch.num_rows

    def close(self) -> None:
        """Flushed to disk: a record that names this file must not outlive its rows."""
        self._writer.close()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


def schema_of(path: Path) -> pa.Schema:
    return pq.read_schema(path)


async def batches_of(path: Path, failpoints: Failpoints) -> AsyncIterator[pa.RecordBatch]:
    """The rows again, in the order and with the types in which they were written."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        batches = file.iter_batches(rows_at_once(file, BATCH_ROWS))
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            if not failpoints.reached("run.drop_batch"):
                yield batch
