"""The sample of a dry run: so many rows, bytes and seconds, and whether there is more."""

import asyncio
import math
from collections.abc import AsyncGenerator

import pyarrow as pa
import pytest

from dataaggregator.dataplane.batch import Batch, Cursor, RejectedRow
from dataaggregator.dataplane.dry_run import sampling
from dataaggregator.dataplane.dry_run.sampling import first_rows


def batch(first: int, rows: int, rejected: int = 0) -> Batch:
    made = pa.record_batch({"id": list(range(first, first + rows))})
    wrong = [RejectedRow(str(at), "no number", "unfit", "x") for at in range(rejected)]
    return Batch(made, rows + rejected, Cursor("id", "bigint", str(first)), wrong)


async def reading(*batches: Batch, endless: bool = False) -> AsyncGenerator[Batch]:
    for one in batches:
        yield one
    if endless:
        await asyncio.Event().wait()


def ids(sampled: sampling.Sampled) -> list[int | None]:
    return [number for one in sampled.batches for number in one.rows.column("id").to_pylist()]


@pytest.mark.parametrize(("most", "complete"), [(5, True), (6, True), (4, False), (3, False), (1, False)])
async def test_so_many_rows_and_whether_there_are_more(most: int, complete: bool) -> None:
    sampled = await first_rows(reading(batch(0, 3), batch(3, 2)), most, math.inf)
    assert (ids(sampled), sampled.complete) == (list(range(min(most, 5))), complete)
    assert all(one.cursor is None for one in sampled.batches)


async def test_rejected_rows_are_rows_that_were_read() -> None:
    sampled = await first_rows(reading(batch(0, 2, rejected=3), batch(2, 2)), 6, math.inf)
    assert (sampled.read, sampled.rejected, ids(sampled), sampled.complete) == (6, 3, [0, 1, 2], False)
    sampled = await first_rows(reading(batch(0, 2, rejected=3)), 4, math.inf)
    assert (sampled.read, sampled.rejected, ids(sampled), sampled.complete) == (4, 2, [0, 1], False)
    for one in sampled.batches:
        assert one.read == one.rows.num_rows + len(one.rejected)


async def test_what_came_in_time_counts() -> None:
    until = asyncio.get_running_loop().time() + 0.05
    sampled = await first_rows(reading(batch(0, 3), endless=True), 100, until)
    assert (ids(sampled), sampled.complete) == ([0, 1, 2], False)


async def test_large_rows_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLE_BYTES", 100)
    sampled = await first_rows(reading(*(batch(at * 10, 10) for at in range(9))), 1000, math.inf)
    assert (len(ids(sampled)), sampled.complete) == (20, False)


async def test_a_source_that_fails_fails() -> None:
    async def failing() -> AsyncGenerator[Batch]:
        yield batch(0, 1)
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await first_rows(failing(), 10, asyncio.get_running_loop().time() + 60)
