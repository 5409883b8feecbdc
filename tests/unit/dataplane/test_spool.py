"""The spool: what comes back is what was written, or an error."""

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from dataaggregator.dataplane.batch import BATCH_BYTES
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.spool import SpoolWriter, batches_of, schema_of

NUMBERS = random.Random(7)
TABLE = pa.table({"n": [NUMBERS.getrandbits(62) for _ in range(2000)], "t": [f"text {n}" for n in range(2000)]})


async def _read(path: Path) -> pa.Table:
    return pa.Table.from_batches([batch async for batch in batches_of(path, Failpoints())], TABLE.schema)


@pytest.fixture
async def spool(tmp_path: Path) -> Path:
    writer = SpoolWriter(tmp_path / "spool.parquet", TABLE.schema)
    for batch in TABLE.to_batches(max_chunksize=700):
        await writer.write(batch)
    writer.close()
    assert writer.rows == TABLE.num_rows
    return writer.path


async def test_rows_come_back_as_they_were_written(spool: Path) -> None:
    assert schema_of(spool).equals(TABLE.schema)
    assert await _read(spool) == TABLE


async def test_long_rows_come_back_in_batches_of_bounded_size(tmp_path: Path) -> None:
    long = pa.table({"n": range(60), "t": [f"{n:04}" + "x" * 100_000 for n in range(60)]})
    writer = SpoolWriter(tmp_path / "spool.parquet", long.schema)
    await writer.write(long.to_batches()[0])
    writer.close()
    found = [batch async for batch in batches_of(writer.path, Failpoints())]
    assert pa.Table.from_batches(found) == long
    assert max(batch.nbytes for batch in found) <= BATCH_BYTES


def _each_damaged(path: Path) -> Iterator[int]:
    whole = path.read_bytes()
    for at in range(4, len(whole), len(whole) // 150):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        yield at


async def test_a_changed_byte_is_an_error_and_never_another_value(spool: Path) -> None:
    noticed = 0
    for at in _each_damaged(spool):
        try:
            assert await _read(spool) == TABLE, at
        except (OSError, pa.ArrowException):
            noticed += 1
    assert noticed > 100
