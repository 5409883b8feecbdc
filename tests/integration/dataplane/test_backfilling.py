"""A slot of a backfill, through run processes: its rows and no others, once, and nothing of the pipeline's moved."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from dataaggregator.dataplane.backfilling import slot_of
from dataaggregator.dataplane.compile.backfill import backfilled
from dataaggregator.dataplane.job import RunJob, RunOutcome

from .conftest import Bench

Fill = Callable[[int], Awaitable[None]]
BACKFILL = UUID(int=11)
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
SINCE = {"orders": {"connector": "pg", "stream": "public.orders", "read": "incremental", "cursor_field": "placed_at"}}
STATE = "SELECT source_stream, epoch, cursor::text FROM _dataaggregator.state WHERE pipeline_id = $1 ORDER BY 1"


def merged(**more: Any) -> dict[str, Any]:
    kept = {"write": "merge", "key": ["id"], "version_field": "placed_at"}
    return {"connector": "pg", "input": "orders", "stream": "public.target", **kept, **more}


def slot(bench: Bench, live: RunJob, first: int, behind: int, **more: Any) -> RunJob:
    """As the executor makes it of a run for the orders from the first to before the last, in the order they were made:
    order n was placed n seconds after the new year began."""
    start, end = (BEGUN + timedelta(seconds=n) for n in (first, behind))
    run = uuid4()
    changes = {"run_id": run, "folder": str(bench.folder / str(run)), "slot": slot_of(BACKFILL, start, end)}
    definition = backfilled(live.definition, overwrite=False)
    return live.model_copy(update={**changes, "definition": definition, **more})


async def ended(bench: Bench, job: RunJob) -> RunOutcome:
    outcome = await bench.run(job)
    assert (outcome.status, outcome.error, outcome.ledger.balanced) == ("succeeded", None, True)
    return outcome


async def test_a_slot_brings_its_rows_and_leaves_the_live_cursor_where_it_is(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(100)
    live = bench.job(SINCE, [merged()], epoch=5)
    await ended(bench, live)
    before = await db.fetch(STATE, live.pipeline_id)
    await db.execute("DELETE FROM target WHERE id % 2 = 0")
    outcome = await ended(bench, slot(bench, live, 11, 21, epoch=9))
    assert (outcome.counts.rows_read, outcome.counts.rows_written, outcome.cursors) == (10, 5, ())
    assert await db.fetchval("SELECT array_agg(id ORDER BY id) FROM target WHERE id % 2 = 0") == [12, 14, 16, 18, 20]
    assert await db.fetch(STATE, live.pipeline_id) == before
    await orders(110)
    again = bench.job(SINCE, [merged()], pipeline_id=live.pipeline_id, epoch=6)  # below the slot's
    assert (await ended(bench, again)).counts.rows_read == 10


async def test_older_rows_of_an_interval_leave_newer_ones(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    """A log of changes: its older entries are still there."""
    await orders(20)
    live = bench.job(SINCE, [merged()])
    await ended(bench, live)
    await db.execute("UPDATE target SET note = 'newer', placed_at = placed_at + interval '1 day' WHERE id = 5")
    outcome = await ended(bench, slot(bench, live, 1, 11))
    receipt = outcome.destinations[0].receipt
    assert receipt is not None
    assert (receipt.superseded, receipt.unchanged) == (1, 9)
    assert await db.fetchval("SELECT note FROM target WHERE id = 5") == "newer"


async def test_slots_and_a_live_run_load_one_table_beside_each_other(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(4_000)
    live = bench.job(SINCE, [merged()], epoch=3)
    slots = [slot(bench, live, first, first + 1_000, epoch=10 - first // 1_000) for first in range(1, 4_001, 1_000)]
    await asyncio.gather(*(ended(bench, job) for job in (live, *slots)))
    assert await db.fetchval("SELECT count(*) FROM (TABLE orders EXCEPT TABLE target) x") == 0
    assert await db.fetchval("SELECT count(*) FROM target") == 4_000


async def test_a_later_run_of_a_slot_keeps_an_older_one_out(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(20)
    live = bench.job(SINCE, [merged()])
    await ended(bench, slot(bench, live, 1, 11, epoch=8))
    late = await bench.run(slot(bench, live, 1, 11, epoch=7))
    assert late.error is not None
    assert (late.status, late.error.code) == ("failed", "lease-lost")
    assert await db.fetchval("SELECT count(*) FROM target") == 10


async def test_a_source_that_knows_no_intervals_says_so(bench: Bench, orders: Fill) -> None:
    await orders(1)
    bench.connector("disk", "files", {"root": bench.folder.as_uri()})
    files = {"orders": {"connector": "disk", "stream": "o.csv", "read": "incremental", "cursor_field": "placed_at"}}
    outcome = await bench.run(slot(bench, bench.job(files, [merged()]), 1, 11))
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "interval-not-read")
