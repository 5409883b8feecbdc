"""Whole runs through real run processes and sandboxes: how they end, and what they say of it."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq
import pytest

from dataaggregator.dataplane.job import LogLine, Progress, RunJob, RunOutcome
from dataaggregator.dataplane.processes import RunProcess
from dataaggregator.dataplane.sandbox.processor import used_seconds
from dataaggregator.errors import Transient

from .conftest import WORKSPACE, Bench, pool_of, sandboxes_of

Fill = Callable[[int], Awaitable[None]]
ORDERS = {"connector": "pg", "stream": "public.orders"}
ENDLESS = {"connector": "pg", "query": "SELECT generate_series(1, 2000000000) AS n"}


def keep(*steps: dict[str, Any], name: str = "keep", inputs: tuple[str, ...] = ("orders",)) -> dict[str, Any]:
    return {"name": name, "inputs": list(inputs), "steps": list(steps)}


def target(write: str = "append", **more: Any) -> dict[str, Any]:
    return {"connector": "pg", "input": "keep", "stream": "public.target", "write": write} | more


async def run_until(
    bench: Bench, job: RunJob, act: Callable[[RunProcess], Awaitable[None]]
) -> tuple[RunOutcome, float]:
    """Runs the job, does `act` at the first rows that moved, and says how long it took from there to the end."""
    began: list[float] = []
    async with bench.pool.take(WORKSPACE) as process:

        async def on_frame(frame: object) -> None:
            bench.frames.append(frame)  # type: ignore[arg-type]
            if isinstance(frame, Progress) and frame.rows_written and not began:
                began.append(time.monotonic())
                await act(process)

        outcome = await process.run(job, on_frame)
    assert began, outcome
    return outcome, time.monotonic() - began[0]


async def test_a_cancelled_run_rolls_back_within_seconds_and_its_process_is_used_again(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    job = bench.job({"orders": ENDLESS}, [target()], [keep({"filter": "n > 0"})])
    outcome, seconds = await run_until(bench, job, lambda process: process.cancel())
    assert (outcome.status, outcome.error) == ("cancelled", None)
    assert outcome.destinations[0].status == "cancelled"
    assert seconds < 10
    assert await db.fetchval("SELECT count(*) FROM target") == 0
    await orders(3)
    after = bench.job({"orders": ORDERS}, [target(input="orders", stream="public.other")])
    assert (await bench.run(after)).status == "succeeded"


async def test_an_undecoded_copy_can_be_cancelled_too(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE target (n int)")
    job = bench.job({"orders": ENDLESS}, [target(input="orders")])
    began: list[float] = []
    async with bench.pool.take(WORKSPACE) as process:

        async def on_frame(frame: object) -> None:
            if isinstance(frame, Progress) and frame.phase == "reading" and not began:
                began.append(time.monotonic())
                await process.cancel()

        outcome = await process.run(job, on_frame)
    assert outcome.status == "cancelled"
    assert time.monotonic() - began[0] < 10
    assert await db.fetchval("SELECT count(*) FROM target") == 0


async def test_a_sandbox_that_dies_is_a_plain_failure(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    async with pool_of(bench.folder / "own", warm=0) as bench.pool:

        async def kill_sandbox(_: RunProcess) -> None:
            for pid in sandboxes_of(bench.pool):
                os.kill(pid, signal.SIGKILL)

        job = bench.job({"orders": ENDLESS}, [target()], [keep({"filter": "n > 0"})])
        outcome, seconds = await run_until(bench, job, kill_sandbox)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.stage) == ("sandbox-killed", "transformations")
    assert seconds < 20
    assert await db.fetchval("SELECT count(*) FROM target") == 0


async def test_a_killed_run_process_takes_its_sandbox_with_it(bench: Bench, orders: Fill) -> None:
    """The sandbox computes and looks at no wire: its template sees that whom it works for has ended."""
    await orders(3)
    endless = "select count(*) as n from range(1000000000) a, range(1000000000) b where hash(a, b) = 7"
    job = bench.job({"orders": ORDERS}, [target()], [keep({"sql": endless})])
    async with pool_of(bench.folder / "own", warm=0) as pool, asyncio.timeout(60):
        async with pool.take(WORKSPACE) as process:
            running = asyncio.create_task(process.run(job, bench.on_frame))
            while sum(used_seconds(pid) for pid in sandboxes_of(pool)) < 1:  # noqa: ASYNC110 - a process gives no event
                await asyncio.sleep(0.05)
            template = pool.templates.sandboxes.engine.pid
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(Transient):
                await running
        while sandboxes_of(pool):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert pool.templates.sandboxes.engine.pid == template


async def test_rejected_rows_are_in_the_quarantine_and_in_the_ledger(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(1_000)
    rule = {"rule": "small", "check": "id <= 990", "on_fail": "reject"}
    job = bench.job({"orders": ORDERS}, [target()], [keep({"filter": "id > 10"}, {"validate": [rule]})])
    outcome = await bench.run(job)
    assert (outcome.status, outcome.error) == ("succeeded", None)
    counts = outcome.counts
    assert (counts.rows_read, counts.rows_written, counts.rows_filtered, counts.rows_rejected) == (1_000, 980, 10, 10)
    (entry,) = outcome.quarantine
    assert (entry.stage, entry.kind, entry.rule, entry.count) == ("keep[1].validate", "validate", "small", 10)
    assert pq.read_table(Path(job.folder) / entry.file).num_rows == 10
    assert outcome.ledger.balanced
    assert outcome.ledger.accounting == "proven"


async def test_too_many_rejected_rows_fail_the_run_before_anything_is_committed(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(1_000)
    rule = {"rule": "small", "check": "id <= 980", "on_fail": "reject"}
    job = bench.job({"orders": ORDERS}, [target()], [keep({"validate": [rule]})], on_rejected={"threshold": "1%"})
    outcome = await bench.run(job)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "rejected-over-threshold")
    assert outcome.error.help == "docs/troubleshooting/errors.md#rejected-over-threshold"
    assert outcome.warnings == ()
    assert sum(entry.count for entry in outcome.quarantine) == 20
    assert await db.fetchval("SELECT count(*) FROM target") == 0


async def test_the_files_of_rejected_rows_are_those_of_one_attempt_wherever_another_left_its_own(
    bench: Bench, orders: Fill
) -> None:
    """A run that was handed back has the same number of attempt, not the same epoch."""
    await orders(1_000)
    steps = keep({"validate": [{"rule": "small", "check": "id <= 980", "on_fail": "reject"}]})
    job = bench.job({"orders": ORDERS}, [target()], [steps], on_rejected={"threshold": "1%"})
    (first,) = (await bench.run(job)).quarantine
    (second,) = (await bench.run(job.model_copy(update={"epoch": job.epoch + 1}))).quarantine
    assert first.file != second.file
    assert {pq.read_table(f"{job.folder}/{one.file}").num_rows for one in (first, second)} == {20}


async def test_more_rejected_rows_than_wished_are_a_warning_where_the_pipeline_says_so(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(1_000)
    rule = {"rule": "small", "check": "id <= 980", "on_fail": "reject"}
    for threshold, warnings in (("1%", ["20 of 1000 rows were rejected; the pipeline allows 1%."]), ("20", [])):
        on_rejected = {"threshold": threshold, "then": "warn"}
        target_ = target(write="replace")
        job = bench.job({"orders": ORDERS}, [target_], [keep({"validate": [rule]})], on_rejected=on_rejected)
        outcome = await bench.run(job)
        assert (outcome.status, outcome.error, list(outcome.warnings)) == ("succeeded", None, warnings)
        assert await db.fetchval("SELECT count(*) FROM target") == 980


async def test_streams_are_joined_aggregated_and_merged(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(5_000)
    await db.execute(
        "CREATE TABLE customers AS SELECT n AS customer, 'region ' || n % 5 AS region FROM generate_series(0, 899) n"
    )
    sources = {"orders": ORDERS, "customers": {"connector": "pg", "stream": "public.customers"}}
    steps = keep(
        {"join": {"with": "customers", "on": ["customer"], "how": "inner", "expect": "many_to_one"}},
        {"aggregate": {"by": ["region"], "measures": {"orders": "count(*)", "total": "sum(amount)"}}},
        inputs=("orders", "customers"),
    )
    job = bench.job(sources, [target("merge", key=["region"])], [steps])
    outcome = await bench.run(job)
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    expected = await db.fetch(
        "SELECT region, count(*), sum(amount) FROM orders JOIN customers USING (customer) GROUP BY 1 ORDER BY 1"
    )
    held = await db.fetch("SELECT region, orders, total FROM target ORDER BY region")
    assert [tuple(row) for row in held] == [tuple(row) for row in expected]
    join = next(stage for stage in outcome.ledger.stages if stage.kind == "join")
    assert {one.input: (one.matched, one.unmatched) for one in join.inputs} == {
        "orders": (4_500, 500),
        "customers": (900, 0),
    }
    again = bench.job(sources, [target("merge", key=["region"])], [steps], pipeline_id=job.pipeline_id, epoch=2)
    receipt = (await bench.run(again)).destinations[0].receipt
    assert receipt is not None
    assert (receipt.inserted, receipt.unchanged) == (0, 5)


async def test_no_rows_where_there_were_rows_before_is_a_warning(bench: Bench, orders: Fill) -> None:
    await orders(0)
    job = bench.job({"orders": ORDERS}, [target(input="orders")], previous_rows={"orders": 12})
    outcome = await bench.run(job)
    assert outcome.status == "succeeded"
    assert outcome.warnings == ("orders gave no rows; in the run before it gave 12.",)
    (emptied,) = outcome.emptied
    assert (emptied.source, emptied.stream, emptied.rows_before) == ("orders", "public.orders", 12)
    again = await bench.run(bench.again(job))
    assert (again.warnings, again.emptied) == (outcome.warnings, outcome.emptied), "an attempt that finds the commit"


async def test_a_password_is_in_no_frame_and_in_no_error(bench: Bench, orders: Fill, empty_database_url: str) -> None:
    await orders(1)
    wrong = "n0t-the-passw0rd"
    before, at, after = empty_database_url.rpartition("@")
    bench.connector("closed", "postgres", {"url": f"{before.rpartition(':')[0]}:{wrong}{at}{after}"})
    job = bench.job({"orders": {"connector": "closed", "stream": "public.orders"}}, [target(input="orders")])
    outcome = await bench.run(job)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.stage) == ("failed", "orders")
    told = outcome.model_dump_json() + "".join(frame.model_dump_json() for frame in bench.frames)
    assert wrong not in told
    assert any(isinstance(frame, LogLine) and frame.level == "error" for frame in bench.frames)
