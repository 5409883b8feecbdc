"""A cancel that comes between a chunk's commit and what is written down of it: both are there, or neither."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.chunked import ChunkedRunner
from dataaggregator.dataplane.chunks import Committed
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.job import SandboxSettings
from dataaggregator.dataplane.warm import WarmSandbox

from .conftest import Bench
from .test_chunks import SINCE, TO, Fill

LEDGER = "_dataaggregator.loads"
HOLD = f"""CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
    PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
CREATE TRIGGER hold AFTER INSERT ON {LEDGER} FOR EACH STATEMENT EXECUTE FUNCTION hold()"""
WAITING = f"SELECT FROM pg_locks WHERE NOT granted AND relation = '{LEDGER}'::regclass AND mode = $1"
HELD_UP = "SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"


class Silent:
    """Nobody listens to this run."""

    def tell(self, frame: object) -> None: ...

    def log(self, level: str, message: str, **fields: Any) -> None: ...

    async def before_commit(self) -> None: ...


async def seen(db: asyncpg.Connection, sql: str, *values: str) -> None:
    async with asyncio.timeout(30):
        while not await db.fetch(sql, *values):  # noqa: ASYNC110 (the server has no signal for it)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def ledger_locked_at_the_commit(db: asyncpg.Connection, url: str) -> AsyncIterator[None]:
    """Entered once the next load has committed; till the end nobody can read the ledger, and so no receipt."""
    locking = await asyncpg.connect(url)
    await db.execute(f"{HOLD}; SELECT pg_advisory_lock(1)")
    try:
        await seen(db, HELD_UP)
        lock = asyncio.create_task(locking.execute(f"BEGIN; LOCK TABLE {LEDGER} IN ACCESS EXCLUSIVE MODE"))
        await seen(db, WAITING, "AccessExclusiveLock")
        await db.execute("SELECT pg_advisory_unlock(1)")
        await lock
        yield
    finally:
        await locking.close()


async def test_a_cancel_waits_until_a_committed_chunk_is_written_down(
    bench: Bench, orders: Fill, db: asyncpg.Connection, empty_database_url: str
) -> None:
    await orders(300)
    await bench.run(bench.job(SINCE, [TO | {"stream": "public.before"}]))
    job = bench.job(SINCE, [TO | {"chunk_rows": 100}])
    sandboxes = WarmSandbox(SandboxSettings(), bench.folder / "spill", bench.pool.templates.sandboxes.forks)
    runner = ChunkedRunner(job, Silent(), sandboxes, Failpoints())
    running = asyncio.create_task(runner.run())
    async with ledger_locked_at_the_commit(db, empty_database_url):
        await seen(db, WAITING, "AccessShareLock")
        runner.cancel()
    outcome = await running
    assert (outcome.status, await db.fetchval("SELECT count(*) FROM target")) == ("cancelled", 100)
    receipt = outcome.destinations[0].receipt
    assert receipt is not None
    assert (receipt.chunks, receipt.committed, receipt.verified) == (1, 100, True)
    assert outcome.counts == RunCounts(
        rows_read=100,
        rows_written=100,
        bytes_read=outcome.counts.bytes_read,
        bytes_written=outcome.counts.bytes_written,
    )
    assert Committed.of(bench.folder / str(job.run_id)).chunks == 1
