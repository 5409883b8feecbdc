"""Long loads in chunks: killed, cancelled or refused anywhere, whole chunks stay; what follows goes on behind them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from dataaggregator.contracts.ledger import Receipt
from dataaggregator.dataplane.failpoints import CHUNK_KILLS, KILLS
from dataaggregator.dataplane.job import CursorCommitted, ReadBack, RunJob, RunOutcome
from dataaggregator.errors import Transient

from .conftest import WORKSPACE, Bench
from .test_load_protocol import digest
from .test_probe import probe

Fill = Callable[[int], Awaitable[None]]
ROWS, CHUNK = 20_000, 3_000
CHUNKS = 7
SINCE = {"orders": {"connector": "pg", "stream": "public.orders", "read": "incremental", "cursor_field": "id"}}
TO = {"connector": "pg", "input": "orders", "stream": "public.target", "write": "append", "chunk_rows": CHUNK}
MERGE = TO | {"write": "merge", "key": ["id"]}
# One row of a hundred is set aside.
CLEAN = {"name": "clean", "inputs": ["orders"], "steps": [{"validate": [{"rule": "odd", "check": "id % 100 <> 0"}]}]}


def succeeded(outcome: RunOutcome) -> RunOutcome:
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert outcome.ledger.balanced
    return outcome


async def chunks(db: asyncpg.Connection) -> list[int]:
    """The rows of each chunk that the destination holds, by number."""
    rows = await db.fetch("SELECT chunk, rows FROM _dataaggregator.loads ORDER BY chunk")
    assert [row["chunk"] for row in rows] == list(range(len(rows)))
    return [row["rows"] for row in rows]


@pytest.mark.parametrize("to", [TO, MERGE], ids=["append", "merge"])
@pytest.mark.parametrize("steps", [[], [CLEAN]], ids=["undecoded", "steps"])
async def test_each_chunk_is_a_transaction_and_together_they_are_the_load(
    bench: Bench, orders: Fill, db: asyncpg.Connection, to: dict[str, Any], steps: list[dict[str, Any]]
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [to | ({"input": "clean"} if steps else {})], steps)
    outcome = succeeded(await bench.run(job))
    aside = 200 if steps else 0
    assert (outcome.counts.rows_read, outcome.counts.rows_rejected) == (ROWS, aside)
    assert outcome.counts.rows_written == ROWS - aside
    assert await chunks(db) == [CHUNK - aside * 3 // 20] * 6 + [2_000 - aside // 10]
    receipt = outcome.destinations[0].receipt
    assert receipt is not None
    assert (receipt.chunks, receipt.committed, receipt.verified) == (CHUNKS, ROWS - aside, True)
    assert sum(entry.count for entry in outcome.quarantine) == aside
    assert all(entry.destinations == ("pg/public.target",) for entry in outcome.quarantine)
    assert [known.cursor["value"] for known in outcome.cursors] == [str(ROWS)]
    told = [frame.cursor["value"] for frame in bench.frames if isinstance(frame, CursorCommitted)]
    assert told == [str(CHUNK * number) for number in range(1, 7)] + [str(ROWS)]
    assert [path.name for path in bench.folder.glob("*/pass-*")] == []
    if not steps:
        assert await digest(db, "target") == await digest(db, "orders")
    await orders(ROWS + 10)
    more = job.model_copy(update={"run_id": uuid4(), "epoch": 2, "folder": f"{job.folder}-more"})
    assert succeeded(await bench.run(more)).counts.rows_read == 10


@pytest.mark.parametrize(
    ("failpoint", "nth"),
    [
        *((failpoint, 4) for failpoint in sorted(KILLS - {"run.before_outcome"} | CHUNK_KILLS)),
        *(("load.before_commit", 1), ("load.after_commit", 1), ("load.after_commit", 7), ("chunk.recorded", 7)),
    ],
)
async def test_killed_in_any_chunk_the_next_attempt_goes_on_behind_the_last_one(
    bench: Bench, orders: Fill, db: asyncpg.Connection, failpoint: str, nth: int
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [TO | {"input": "clean"}], [CLEAN])
    with pytest.raises(Transient) as lost:
        await bench.run_armed(job, f"{failpoint}:{nth}")
    assert lost.value.code == "run-process-lost"
    before = await chunks(db)
    after_commit = failpoint in {"load.after_commit", "load.before_receipt", *CHUNK_KILLS}
    assert len(before) == (nth if after_commit else nth - 1)
    outcome = succeeded(await bench.run(bench.again(job)))
    assert await chunks(db) == [2_970] * 6 + [1_980]
    assert (outcome.counts.rows_read, outcome.counts.rows_rejected) == (ROWS, 200)
    assert sum(entry.count for entry in outcome.quarantine) == 200
    assert await db.fetch("SELECT id FROM orders WHERE id % 100 <> 0 EXCEPT ALL SELECT id FROM target") == []
    assert await db.fetchval("SELECT count(*) FROM target") == ROWS - 200


async def test_a_run_killed_again_and_again_ends_with_each_row_once(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [TO])
    for failpoint in ("load.after_commit:2", "chunk.committed:1", "load.mid_write:2", "chunk.recorded:1"):
        with pytest.raises(Transient):
            await bench.run_armed(job, failpoint)
        job = bench.again(job)
    succeeded(await bench.run(job))
    assert await chunks(db) == [CHUNK] * 6 + [2_000]
    assert await digest(db, "target") == await digest(db, "orders")
    assert succeeded(await bench.run(bench.again(job))).counts.rows_read == ROWS  # all there: only told again
    assert await digest(db, "target") == await digest(db, "orders")


async def test_rows_of_one_cursor_value_are_never_parted(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    bench.connector("pg", "postgres", {"url": empty_database_url})
    await db.execute(
        "CREATE TABLE orders AS SELECT n AS id, (n / 700)::numeric / 3 AS at FROM generate_series(1, 9999) n"
    )
    source = {"orders": SINCE["orders"] | {"cursor_field": "at"}}
    with pytest.raises(Transient):
        await bench.run_armed(job := bench.job(source, [TO | {"chunk_rows": 1_000}]), "load.after_commit:3")
    succeeded(await bench.run(bench.again(job)))
    sizes = await chunks(db)
    assert sizes == [1399, 1400, 1400, 1400, 1400, 1400, 1400, 200]
    assert await digest(db, "target") == await digest(db, "orders")


async def test_a_cancel_leaves_whole_chunks_and_says_how_many(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [TO | {"chunk_rows": 100}])
    async with bench.pool.take(WORKSPACE) as process:
        running = asyncio.create_task(process.run(job, bench.on_frame))
        async with asyncio.timeout(60):
            while not any(isinstance(frame, CursorCommitted) for frame in bench.frames):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await process.cancel()
        outcome = await running
    assert (outcome.status, outcome.error) == ("cancelled", None)
    receipt = outcome.destinations[0].receipt
    assert receipt is not None
    assert 0 < receipt.committed < ROWS
    assert outcome.destinations[0].status == "cancelled"
    assert outcome.counts.rows_written == receipt.committed == await db.fetchval("SELECT count(*) FROM target")
    assert receipt.chunks == len(await chunks(db)) == receipt.committed // 100
    assert await db.fetchval("SELECT max(id) FROM target") == receipt.committed
    next_run = job.model_copy(update={"run_id": uuid4(), "epoch": 2, "folder": f"{job.folder}-next"})
    assert (await bench.run(next_run)).status == "succeeded"
    assert await digest(db, "target") == await digest(db, "orders")


async def test_a_chunk_that_fails_leaves_those_before_it_and_the_next_run_goes_on(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    await db.execute("CREATE TABLE target (LIKE orders, CHECK (id <> 7000))")
    job = bench.job(SINCE, [TO])
    outcome = await bench.run(job)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "connector-refused")
    assert outcome.ledger.balanced
    receipt = outcome.destinations[0].receipt
    assert receipt is not None
    assert (receipt.chunks, receipt.committed, outcome.counts.rows_written) == (2, 6_000, 6_000)
    await db.execute("ALTER TABLE target DROP CONSTRAINT target_id_check")
    again = succeeded(await bench.run(bench.again(job)))
    assert again.counts.rows_read == ROWS
    assert await digest(db, "target") == await digest(db, "orders")


async def test_too_many_rejected_rows_of_all_chunks_so_far_commit_no_more(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [TO | {"input": "clean"}], [CLEAN], on_rejected={"threshold": 100})
    outcome = await bench.run(job)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "rejected-over-threshold")
    assert await chunks(db) == [2_970] * 3
    assert (outcome.counts.rows_rejected, sum(entry.count for entry in outcome.quarantine)) == (90, 120)
    assert [entry.count for entry in outcome.quarantine if not entry.destinations] == [30]


async def test_a_full_refresh_merges_in_chunks_and_replaces_in_one(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    for table, several in (("public.target", True), ("public.added", False)):
        job = bench.job(SINCE, [(MERGE if several else TO) | {"stream": table}])
        succeeded(await bench.run(job))
        await db.execute(f"DELETE FROM {table} WHERE id < 5000")
        refresh = job.model_copy(
            update={"run_id": uuid4(), "epoch": 2, "folder": f"{job.folder}-2", "full_refresh": True}
        )
        with pytest.raises(Transient):
            await bench.run_armed(refresh, "load.after_commit:3" if several else "load.after_commit")
        outcome = succeeded(await bench.run(bench.again(refresh)))
        assert outcome.counts.rows_read == ROWS
        receipt = outcome.destinations[0].receipt
        assert receipt is not None
        assert receipt.chunks == (CHUNKS if several else 1)
        assert await digest(db, table) == await digest(db, "orders")


async def test_asked_only_it_tells_what_is_committed_and_nothing_can_be_after(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [TO])
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit:3")
    outcome = await bench.run(bench.again(job).model_copy(update={"only_ask": True, "epoch": 9}))
    receipt = outcome.destinations[0].receipt
    assert receipt is not None
    assert (outcome.status, receipt.committed, receipt.chunks) == ("cancelled", 3 * CHUNK, 3)
    late = await bench.run(bench.again(job))
    assert late.error is not None
    assert (late.error.code, await db.fetchval("SELECT count(*) FROM target")) == ("lease-lost", 3 * CHUNK)


async def test_asked_only_after_the_last_chunk_it_has_succeeded(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [TO])
    with pytest.raises(Transient):
        await bench.run_armed(job, f"load.after_commit:{CHUNKS}")
    outcome = succeeded(await bench.run(bench.again(job).model_copy(update={"only_ask": True})))
    assert outcome.counts.rows_written == ROWS


async def test_without_its_folder_an_attempt_goes_on_and_knows_the_counts(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [TO])
    with pytest.raises(Transient):
        await bench.run_armed(job, "chunk.recorded:3")
    outcome = await bench.run(bench.again(job).model_copy(update={"folder": f"{job.folder}-elsewhere"}))
    assert (outcome.status, outcome.ledger.accounting) == ("succeeded", "proven")
    assert await digest(db, "target") == await digest(db, "orders")
    assert (outcome.counts.rows_read, outcome.warnings) == (ROWS, ())


async def test_a_receipt_that_is_read_back_later_is_that_of_all_chunks(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    job = bench.job(SINCE, [TO])
    receipt = succeeded(await bench.run(job)).destinations[0].receipt
    assert receipt is not None

    async def found() -> Receipt | None:
        told = {"run_id": job.run_id, "pipeline_id": job.pipeline_id, "destination": "pg/public.target"}
        answered = await probe(bench, "read_back", load={**told, "stream": "public.target", "write": "append"})
        assert answered.error is None
        return ReadBack.model_validate(answered.result).receipt

    read_back = await found()
    assert read_back is not None
    assert read_back.model_dump(exclude={"verified", "read_back_at"}) == receipt.model_dump(
        exclude={"verified", "read_back_at"}
    )
    await db.execute("DELETE FROM _dataaggregator.loads WHERE chunk = 5")
    less = await found()
    assert less is not None
    assert (less.chunks, less.committed) == (5, 5 * CHUNK)
    assert less.checksum != receipt.checksum


async def test_files_take_chunks_as_parts_that_the_manifest_names(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    bench.connector("lake", "files", {"root": bench.folder.as_uri()})
    to = TO | {"connector": "lake", "stream": "orders"}
    job = bench.job(SINCE, [to])
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit:3")
    receipt = succeeded(await bench.run(bench.again(job))).destinations[0].receipt
    load = {"run_id": job.run_id, "pipeline_id": job.pipeline_id, "destination": "lake/orders", "stream": "orders"}
    lake = {"connector": bench.connectors[bench.types["lake"][0]], "settings": job.settings}
    answered = await probe(bench, "read_back", load=load | {"write": "append"}, **lake)
    read_back = ReadBack.model_validate(answered.result)
    assert (read_back.written, read_back.unchanged) == (ROWS, ROWS)
    assert receipt is not None
    assert read_back.receipt is not None
    assert (read_back.receipt.chunks, read_back.receipt.checksum) == (CHUNKS, receipt.checksum)
    back = {"connector": "pg", "input": "orders", "stream": "public.back", "write": "append"}
    source = {"orders": {"connector": "lake", "stream": "orders"}}
    succeeded(await bench.run(bench.job(source, [back])))
    assert await db.fetch("SELECT id, note FROM orders EXCEPT ALL SELECT id, note FROM back") == []
    assert await db.fetchval("SELECT count(*) FROM back") == ROWS


async def test_what_cannot_be_read_or_loaded_in_chunks_is_refused_before_a_row_is_read(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(1)
    bench.connector("lake", "files", {"root": bench.folder.as_uri()})
    bench.connector("api", "http", {"base_url": "http://127.0.0.1:9", "streams": {"out": {"path": "/out"}}})
    (bench.folder / "rows.csv").write_text("id\n1\n")
    lake = {"orders": {"connector": "lake", "stream": "rows.csv", "read": "incremental", "cursor_field": "id"}}
    for source, to, said in (
        (lake, TO, "files gives rows in no order"),
        (SINCE, TO | {"connector": "api", "stream": "out"}, "keeps no ledger"),
    ):
        outcome = await bench.run(bench.job(source, [to]))
        assert outcome.error is not None
        assert (outcome.error.code, said in outcome.error.detail) == ("chunk-rows-impossible", True)
    assert not await db.fetchval("SELECT to_regclass('target') IS NOT NULL")


async def test_a_load_of_many_chunks_needs_no_more_sessions_than_one(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(2_000)
    await db.execute("CREATE TABLE seen (sessions int)")
    await db.execute(
        """CREATE TABLE target (LIKE orders);
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database(); RETURN NULL; END';
        CREATE TRIGGER look AFTER INSERT ON target FOR EACH STATEMENT EXECUTE FUNCTION look()"""
    )
    job: RunJob = bench.job(SINCE, [TO | {"chunk_rows": 50}])
    succeeded(await bench.run(job))
    seen = [row["sessions"] for row in await db.fetch("SELECT sessions FROM seen")]
    assert len(seen) == 40
    assert max(seen) <= 6
