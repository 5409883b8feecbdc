"""The bounded queue: order kept, memory bounded in batches and in bytes."""

import asyncio

import pyarrow as pa

from dataaggregator.dataplane.inflight import BatchQueue


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


async def test_bytes_are_bounded_too_but_one_large_batch_passes_alone() -> None:
    queue = BatchQueue(size_bytes=100)
    await asyncio.wait_for(queue.put(batch(1000)), 5)
    second = asyncio.create_task(queue.put(batch(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not second.done()
    taken = aiter(queue)
    assert (await anext(taken)).num_rows == 1000
    await asyncio.wait_for(second, 5)
