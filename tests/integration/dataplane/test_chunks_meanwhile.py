"""Rows that come in while a load in chunks goes on, or is down: each is read once, by this run or the next."""

import shutil
from uuid import uuid4

import asyncpg
import pytest

from dataaggregator.errors import Transient

from .conftest import Bench
from .test_chunks import CHUNK, CLEAN, MERGE, ROWS, SINCE, TO, Fill, chunks, succeeded
from .test_load_protocol import digest


async def test_rows_that_come_in_meanwhile_are_left_to_the_next_run(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    await db.execute(
        f"""CREATE TABLE target (LIKE orders);
        CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
            INSERT INTO orders SELECT m + n, 1, 1, null, now()
                FROM generate_series(1, {CHUNK}) n, (SELECT max(id) AS m FROM orders) x WHERE m < {2 * ROWS};
            RETURN NULL; END';
        CREATE TRIGGER more AFTER INSERT ON target FOR EACH STATEMENT EXECUTE FUNCTION more()"""
    )
    job = bench.job(SINCE, [TO])
    assert succeeded(await bench.run(job)).counts.rows_read == ROWS
    assert await db.fetchval("SELECT max(id) FROM target") == ROWS
    await db.execute("DROP TRIGGER more ON target")
    more = job.model_copy(update={"run_id": uuid4(), "epoch": 2, "folder": f"{job.folder}-more"})
    succeeded(await bench.run(more))
    assert await digest(db, "target") == await digest(db, "orders")


async def test_rows_that_come_in_while_a_load_is_down_are_each_read_once(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    """One in the chunk that was not committed, some behind the end of the attempt before."""
    await orders(ROWS)
    await db.execute("DELETE FROM orders WHERE id = 7000")
    job = bench.job(SINCE, [TO | {"input": "clean"}], [CLEAN])
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.before_commit:3")
    await orders(ROWS + 10)
    await db.execute("INSERT INTO orders VALUES (7000, 1, 1, 'late', now())")
    with pytest.raises(Transient):
        await bench.run_armed(again := bench.again(job), "load.after_commit:1")
    assert await chunks(db) == [2_970] * 3
    outcome = succeeded(await bench.run(bench.again(again)))
    assert await chunks(db) == [2_970] * 6 + [1_990]
    assert (outcome.counts.rows_read, outcome.counts.rows_rejected) == (ROWS + 10, 200)
    ids = "SELECT count(*) FROM (SELECT id FROM {} WHERE id % 100 <> 0 EXCEPT ALL SELECT id FROM {}) AS only_there"
    assert await db.fetchval(ids.format("orders", "target")) == 0
    assert await db.fetchval(ids.format("target", "orders")) == 0


async def test_behind_a_chunk_that_nobody_wrote_down_it_goes_on_where_the_destination_is(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [TO])
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit:3")
    for folder in bench.folder.glob("*/pass-*"):
        shutil.rmtree(folder)
    await db.execute("UPDATE _dataaggregator.loads SET note = ''")
    outcome = await bench.run(bench.again(job))
    assert (outcome.status, outcome.ledger.accounting) == ("succeeded", "unaccounted"), outcome.error
    assert await chunks(db) == [CHUNK] * 6 + [2_000]
    assert await digest(db, "target") == await digest(db, "orders")


async def test_late_rows_are_merged_also_where_an_attempt_died_in_between(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(5_000)
    source = {"orders": SINCE["orders"] | {"cursor_field": "placed_at", "lateness": "10m"}}
    job = bench.job(source, [MERGE | {"chunk_rows": 1_000}])
    with pytest.raises(Transient):
        await bench.run_armed(job, "chunk.recorded:3")
    # 5 minutes below the cursor that is committed, which is the time of row 3000
    await db.execute(
        "INSERT INTO orders SELECT 9999, 1, 1, 'late', placed_at - interval '5m' FROM orders WHERE id = 3000"
    )
    outcome = succeeded(await bench.run(bench.again(job)))
    assert outcome.counts.rows_read == 5_000 + 601
    assert await digest(db, "target") == await digest(db, "orders")
