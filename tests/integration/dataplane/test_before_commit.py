"""A run that rejected rows asks before it commits, so that they can be put where they outlive its machine."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from dataaggregator.dataplane.job import RunJob, RunOutcome
from dataaggregator.errors import Transient

from .conftest import WORKSPACE, Bench
from .test_runner import ORDERS, keep, target

Fill = Callable[[int], Awaitable[None]]
SECOND = target(stream="public.second")


def asking(bench: Bench, *destinations: dict[str, Any], most: int = 980) -> RunJob:
    steps = keep({"validate": [{"rule": "small", "check": f"id <= {most}"}]})
    return bench.job({"orders": ORDERS}, list(destinations), [steps], asks_before_commit=True)


async def run(bench: Bench, job: RunJob, before_commit: Callable[[], Awaitable[None]]) -> RunOutcome:
    async with bench.pool.take(WORKSPACE) as process:
        return await process.run(job, bench.on_frame, before_commit)


@pytest.mark.parametrize("destinations", [[target()], [target(), SECOND]])
async def test_what_was_rejected_and_counted_lies_in_the_run_folder_before_anything_is_committed(
    bench: Bench, orders: Fill, db: asyncpg.Connection, destinations: list[dict[str, Any]]
) -> None:
    await orders(1_000)
    job, seen = asking(bench, *destinations), []

    async def look() -> None:
        folder = bench.folder / str(job.run_id)
        found = sorted(path.name for path in folder.rglob("*") if path.name in {"extract.json", "0001.parquet"})
        seen.append((found, await db.fetchval("SELECT count(*) FROM target")))

    outcome = await run(bench, job, look)
    assert (outcome.status, outcome.counts.rows_rejected) == ("succeeded", 20), outcome.error
    assert len(seen) == len(destinations)
    assert seen[0] == (["0001.parquet", "extract.json"], 0)


async def test_a_run_that_rejected_nothing_asks_nobody(bench: Bench, orders: Fill) -> None:
    await orders(1_000)

    async def never() -> None:
        raise AssertionError("there is nothing to be kept")

    assert (await run(bench, asking(bench, target(), most=1_000), never)).status == "succeeded"


async def test_a_run_that_is_cancelled_while_it_waits_commits_nothing(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(1_000)
    job = asking(bench, target())
    async with bench.pool.take(WORKSPACE) as process:
        async with asyncio.timeout(60):
            outcome = await process.run(job, bench.on_frame, process.cancel)
    assert outcome.status == "cancelled"
    assert await db.fetchval("SELECT count(*) FROM target") == 0


async def test_rows_that_were_spooled_on_another_machine_are_read_again(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    """Its records were brought; what one of the destinations has committed by them is not loaded twice."""
    await orders(1_000)
    job = asking(bench, target(), SECOND)
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit")
    for spool in (bench.folder / str(job.run_id)).rglob("spool-*.parquet"):
        spool.unlink()
    outcome = await bench.run(job.model_copy(update={"attempt": 2, "epoch": job.epoch + 1}))
    assert (outcome.status, outcome.error, outcome.ledger.balanced) == ("succeeded", None, True)
    for table in ("target", "second"):
        assert await db.fetchval(f"SELECT count(*) FROM {table}") == 980


async def test_what_a_destination_has_not_taken_is_recorded_before_it_commits_as_well(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await db.execute("CREATE TABLE narrow (id int)")
    given = {"connector": "pg", "query": "SELECT 1 AS id, 'x'::text AS extra UNION ALL SELECT 2, NULL"}
    narrow = {"connector": "pg", "input": "given", "stream": "public.narrow", "schema_policy": "discard_row"}
    job = bench.job({"given": given}, [narrow], asks_before_commit=True)
    seen: list[str] = []

    async def look() -> None:
        folder = bench.folder / str(job.run_id)
        seen.extend(str(path.relative_to(folder)) for path in folder.rglob("*load-00*/*.parquet"))
        seen.extend(path.name for path in folder.glob("load-*.json"))
        assert await db.fetchval("SELECT count(*) FROM narrow") == 0

    outcome = await run(bench, job, look)
    assert (outcome.status, outcome.counts.rows_rejected) == ("succeeded", 1), outcome.error
    assert seen == ["quarantine/1/load-00-000000/0001.parquet", "load-00-000000.json"]
