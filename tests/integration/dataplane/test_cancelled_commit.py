"""A cancel at a commit, or between a chunk's commit and what is written down of it: both are there, or neither."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg

from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.chunked import ChunkedRunner
from dataaggregator.dataplane.chunks import Committed
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.job import RunJob, RunOutcome, SandboxSettings
from dataaggregator.dataplane.runner import Runner
from dataaggregator.dataplane.warm import WarmSandbox

from .conftest import Bench
from .test_chunks import SINCE, TO, Fill

LEDGER = "_dataaggregator.loads"
HOLD = f"""CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
    PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
CREATE TRIGGER hold AFTER INSERT ON {LEDGER} FOR EACH STATEMENT EXECUTE FUNCTION hold()"""
HOLD_COMMIT = HOLD.replace("CREATE TRIGGER", "CREATE CONSTRAINT TRIGGER").replace(
    "FOR EACH STATEMENT", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
)
WAITING_FOR = "SELECT FROM pg_locks WHERE NOT granted AND relation = '{}'::regclass AND mode = $1"
WAITING = WAITING_FOR.format(LEDGER)
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


@asynccontextmanager
async def table_locked(url: str, table: str) -> AsyncIterator[None]:
    """Till the end nobody can read it."""
    locking = await asyncpg.connect(url)
    await locking.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        await locking.close()


def begun(bench: Bench, job: RunJob, kind: type[Runner]) -> tuple[Runner, asyncio.Task[RunOutcome]]:
    sandboxes = WarmSandbox(SandboxSettings(), bench.folder / "spill", bench.pool.templates.sandboxes.forks)
    runner = kind(job, Silent(), sandboxes, Failpoints())
    return runner, asyncio.create_task(runner.run())


async def ended(running: "asyncio.Task[RunOutcome]") -> RunOutcome:
    async with asyncio.timeout(30):
        return await running


async def with_ledger(bench: Bench, orders: Fill) -> None:
    await orders(300)
    await bench.run(bench.job(SINCE, [TO | {"stream": "public.before"}]))


async def test_a_cancel_waits_until_a_committed_chunk_is_written_down(
    bench: Bench, orders: Fill, db: asyncpg.Connection, empty_database_url: str
) -> None:
    await with_ledger(bench, orders)
    job = bench.job(SINCE, [TO | {"chunk_rows": 100}])
    runner, running = begun(bench, job, ChunkedRunner)
    async with AsyncExitStack() as till_the_end:
        async with ledger_locked_at_the_commit(db, empty_database_url):
            await seen(db, WAITING, "AccessShareLock")
            runner.cancel()
            await till_the_end.enter_async_context(table_locked(empty_database_url, "orders"))
        outcome = await ended(running)  # without a look at the next chunk
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


async def test_a_cancel_of_the_next_chunk_waits_for_nothing(
    bench: Bench, orders: Fill, db: asyncpg.Connection, empty_database_url: str
) -> None:
    await with_ledger(bench, orders)
    runner, running = begun(bench, bench.job(SINCE, [TO | {"chunk_rows": 100}]), ChunkedRunner)
    async with AsyncExitStack() as till_the_end:
        async with ledger_locked_at_the_commit(db, empty_database_url):
            await seen(db, WAITING, "AccessShareLock")
            await till_the_end.enter_async_context(table_locked(empty_database_url, "orders"))
        await seen(db, WAITING_FOR.format("orders"), "AccessShareLock")
        runner.cancel()
        outcome = await ended(running)
    receipt = outcome.destinations[0].receipt
    assert receipt is not None
    assert (outcome.status, receipt.chunks, receipt.committed) == ("cancelled", 1, 100)


@asynccontextmanager
async def held_in_the_commit(db: asyncpg.Connection) -> AsyncIterator[None]:
    """Entered once the server is at a load's COMMIT, which goes on at the end."""
    await db.execute(f"{HOLD_COMMIT}; SELECT pg_advisory_lock(1)")
    await seen(db, HELD_UP)
    yield
    await db.execute("SELECT pg_advisory_unlock(1)")


async def test_a_cancel_within_a_commit_comes_too_late(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await with_ledger(bench, orders)
    to = {name: value for name, value in TO.items() if name != "chunk_rows"}
    runner, running = begun(bench, bench.job(SINCE, [to]), Runner)
    async with held_in_the_commit(db):
        runner.cancel()
    outcome = await ended(running)
    assert (outcome.status, outcome.error, await db.fetchval("SELECT count(*) FROM target")) == ("succeeded", None, 300)
    receipt = outcome.destinations[0].receipt
    assert receipt is not None
    assert (receipt.committed, receipt.verified) == (300, True)


async def test_a_cancel_within_one_destinations_commit_leaves_the_other_as_it_was(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await with_ledger(bench, orders)
    to = {name: value for name, value in TO.items() if name != "chunk_rows"}
    streams = ("public.one", "public.two")
    runner, running = begun(bench, bench.job(SINCE, [to | {"stream": stream} for stream in streams]), Runner)
    async with held_in_the_commit(db):
        runner.cancel()
    outcome = await ended(running)
    assert (outcome.status, [one.status for one in outcome.destinations]) == ("cancelled", ["succeeded", "cancelled"])
    assert [await db.fetchval(f"SELECT count(*) FROM {stream}") for stream in streams] == [300, 0]
