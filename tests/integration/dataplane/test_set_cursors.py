"""Cursors set by hand: obeyed by one run, whatever is killed, and never at the price of a row that is there twice."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dataaggregator.dataplane.job import CursorSet, RunJob
from dataaggregator.errors import Transient

from .conftest import Bench

Fill = Callable[[int], Awaitable[None]]
SINCE = {"orders": {"connector": "pg", "stream": "public.orders", "read": "incremental", "cursor_field": "id"}}
KEY, NAME = "orders:public.orders", "pg/public.target"


def to(write: str = "merge", **more: Any) -> dict[str, Any]:
    key = ["id"] if write == "merge" else []
    return {"connector": "pg", "input": "orders", "stream": "public.target", "write": write, "key": key} | more


def go_on(value: str | None, epoch: int, destination: str | None = NAME) -> CursorSet:
    cursor = None if value is None else {"field": "id", "type": "bigint", "value": value}
    return CursorSet(destination=destination, source=KEY, cursor=cursor, epoch=epoch)


def next_run(bench: Bench, before: RunJob, epoch: int, *by_hand: CursorSet) -> RunJob:
    """Another run of the pipeline; what the executor was told of cursors is nothing, as if it had died each time."""
    job = bench.job(SINCE, [to()], pipeline_id=before.pipeline_id, epoch=epoch, set_by_hand=by_hand)
    return job.model_copy(update={"definition": before.definition})


async def test_a_cursor_set_back_is_read_again_from_and_merged(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(100)
    first = bench.job(SINCE, [to()])
    await bench.run(first)
    outcome = await bench.run(next_run(bench, first, 3, go_on("40", 2)))
    assert (outcome.status, outcome.counts.rows_read) == ("succeeded", 60)
    receipt = outcome.destinations[0].receipt
    assert receipt is not None
    assert (receipt.inserted, receipt.unchanged) == (0, 60)
    assert await db.fetchval("SELECT count(*) FROM target") == 100
    assert [known.cursor["value"] for known in outcome.cursors] == ["100"]


async def test_a_cursor_set_forward_skips_and_the_beginning_is_everything(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(100)
    first = bench.job(SINCE, [to()])
    await bench.run(first)
    await orders(200)
    assert (await bench.run(next_run(bench, first, 3, go_on("150", 2)))).counts.rows_read == 50
    every = CursorSet(destination=None, source=None, cursor=None, epoch=4)
    assert (await bench.run(next_run(bench, first, 5, go_on("150", 2), every))).counts.rows_read == 200
    assert await db.fetchval("SELECT count(*) FROM target") == 200


@pytest.mark.parametrize("failpoint", ["load.before_commit", "load.after_commit", "run.before_outcome"])
async def test_a_set_cursor_is_obeyed_by_one_run_also_if_that_is_killed_at_its_commit(
    bench: Bench, orders: Fill, db: asyncpg.Connection, failpoint: str
) -> None:
    """The executor is told nothing of the commit, and its next run comes with the same wish."""
    await orders(100)
    first = bench.job(SINCE, [to()])
    await bench.run(first)
    wish = go_on("90", 2)
    with pytest.raises(Transient):
        await bench.run_armed(next_run(bench, first, 3, wish), failpoint)
    again = await bench.run(next_run(bench, first, 4, wish))
    assert again.counts.rows_read == (10 if failpoint == "load.before_commit" else 0)
    third = await bench.run(next_run(bench, first, 5, wish))
    assert (third.status, third.counts.rows_read) == ("succeeded", 0)
    assert await db.fetchval("SELECT count(*) FROM target") == 100


async def test_the_next_attempt_of_the_run_that_obeyed_loads_nothing_again(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(100)
    first = bench.job(SINCE, [to()])
    await bench.run(first)
    job = next_run(bench, first, 3, go_on("90", 2))
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit")
    outcome = await bench.run(bench.again(job))
    assert (outcome.status, outcome.counts.rows_read) == ("succeeded", 10)
    loads = await db.fetchval("SELECT count(*) FROM _dataaggregator.loads WHERE run_id = $1", job.run_id)
    assert loads == 1


async def test_rows_are_never_appended_twice_whatever_was_set(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    """Also where the pipeline was changed to append since, or the destination is further than anybody knew."""
    await orders(100)
    first = bench.job(SINCE, [to("append")])
    await bench.run(first)
    for wish in (go_on("40", 2), go_on(None, 2), CursorSet(destination=None, source=None, cursor=None, epoch=2)):
        outcome = await bench.run(next_run(bench, first, 3, wish))
        assert outcome.error is not None
        assert (outcome.status, outcome.error.code) == ("failed", "state-append")
        assert (outcome.error.stage, outcome.error.retryable) == (NAME, False)
    await orders(200)
    ahead = await bench.run(next_run(bench, first, 5, go_on("150", 4)))
    assert (ahead.status, ahead.counts.rows_written) == ("succeeded", 50)
    whole = next_run(bench, first, 7, go_on(None, 6)).model_copy(update={"full_refresh": True})
    assert (await bench.run(whole)).status == "succeeded"
    assert await db.fetch("SELECT FROM target GROUP BY id HAVING count(*) > 1") == []
    assert await db.fetchval("SELECT count(*) FROM target") == 200


async def test_a_source_that_is_read_whole_since_has_no_cursor_to_obey(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(100)
    first = bench.job(SINCE, [to("append")])
    await bench.run(first)
    whole = {"orders": {"connector": "pg", "stream": "public.orders"}}
    changed = bench.job(whole, [to("append")], pipeline_id=first.pipeline_id, epoch=3, set_by_hand=(go_on(None, 2),))
    outcome = await bench.run(changed)
    assert (outcome.status, outcome.counts.rows_written, outcome.cursors) == ("succeeded", 100, ())
    assert await db.fetchval("SELECT count(*) FROM target") == 200


async def test_of_several_destinations_each_obeys_its_own(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(100)
    other = to(stream="public.other")
    first = bench.job(SINCE, [to(), other])
    await bench.run(first)
    outcome = await bench.run(next_run(bench, first, 3, go_on("90", 2, "pg/public.other")))
    told = {one.stream: one.receipt.committed for one in outcome.destinations if one.receipt}
    assert told == {"public.target": 0, "public.other": 10}


async def test_files_obey_once_as_well(bench: Bench, orders: Fill, tmp_path: Path) -> None:
    bench.connector("disk", "files", {"root": tmp_path.as_uri()})
    await orders(100)
    first = bench.job(SINCE, [to("append", connector="disk", stream="out")])
    await bench.run(first)
    await orders(200)
    wish = go_on("150", 2, "disk/out")
    with pytest.raises(Transient):
        await bench.run_armed(next_run(bench, first, 3, wish), "load.after_commit")
    again = await bench.run(next_run(bench, first, 4, wish))
    assert (again.status, again.counts.rows_read) == ("succeeded", 0)
