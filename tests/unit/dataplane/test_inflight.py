"""The bounded queue: order kept, memory bounded in batches and in bytes."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pyarrow as pa
import pytest

from dataaggregator.connector.source import ReadRequest
from dataaggregator.dataplane.batch import Batch, RejectedRow
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan, SourceNode
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.flow import Flow, Reader
from dataaggregator.dataplane.inflight import BatchQueue
from dataaggregator.dataplane.tally import Tally

MIB = 1024 * 1024


def batch(rows: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(range(rows), pa.int64())})


async def test_batches_come_out_in_order_and_the_end_after_them() -> None:
    queue = BatchQueue()
    for rows in (1, 2, 3):
        await queue.put(batch(rows))
    await queue.end()
    assert [one.num_rows async for one in queue] == [1, 2, 3]


async def test_a_full_queue_holds_its_producer_until_a_batch_is_taken() -> None:
    queue = BatchQueue(batches=2)
    await queue.put(batch(1))
    await queue.put(batch(1))
    third = asyncio.create_task(queue.put(batch(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not third.done()
    taken = aiter(queue)
    await anext(taken)
    await asyncio.wait_for(third, 5)


async def test_bytes_are_bounded_too_but_one_large_row_passes_alone() -> None:
    queue = BatchQueue(size_bytes=100)
    await asyncio.wait_for(queue.put(pa.record_batch({"text": ["x" * 1000]})), 5)
    second = asyncio.create_task(queue.put(batch(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not second.done()
    taken = aiter(queue)
    assert (await anext(taken)).num_rows == 1
    await asyncio.wait_for(second, 5)


async def test_of_a_batch_larger_than_the_bound_one_piece_waits_after_the_other() -> None:
    queue, large = BatchQueue(size_bytes=100), batch(1000)
    putting = asyncio.create_task(queue.put(large))
    pieces = []
    async for piece in queue:
        pieces.append(piece)
        if sum(one.num_rows for one in pieces) == 1000:
            await putting
            await queue.end()
    assert pa.Table.from_batches(pieces) == pa.Table.from_batches([large])
    assert max(piece.nbytes for piece in pieces) <= 100
    assert len(pieces) < 100


class Endless:
    """Batches of one size for as long as somebody takes them."""

    def __init__(self, size: int) -> None:
        self._rows = batch(size // 8)
        self.given = 0

    async def read(self, _: ReadRequest) -> AsyncGenerator[Batch]:
        while True:
            self.given += 1
            yield Batch(self._rows, self._rows.num_rows)
            await asyncio.sleep(0)


class Stuck:
    """A destination that takes one batch and never comes back; nothing is set aside."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()

    async def write(self, _: pa.RecordBatch) -> None:
        self.taken.set()
        await asyncio.Event().wait()

    def add_unreadable(self, stage: str, rejected: Sequence[RejectedRow]) -> None: ...

    def add_refused(self, stage: str, rule: str, reason: str, rows: pa.RecordBatch) -> None: ...


@pytest.mark.parametrize(("size", "given"), [(1024, 6), (MIB, 5), (2 * MIB, 3), (4 * MIB, 2), (20 * MIB, 1)])
async def test_a_source_runs_ahead_of_its_destination_by_four_batches_and_3_mib(size: int, given: int) -> None:
    """Besides the batch that is being written, and the one that waits for room; of a large one these are pieces."""
    source, stuck = Endless(size), Stuck()
    plan = Plan((SourceNode("a"),), (), (DestinationNode(0, "a"),))
    readers = {"a": Reader("a", source, ReadRequest())}
    flow = asyncio.create_task(Flow(plan, readers, {"a": ("there", stuck)}, Tally(), stuck, Failpoints()).run())
    await stuck.taken.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert source.given == given
    flow.cancel()
    await asyncio.wait([flow])
