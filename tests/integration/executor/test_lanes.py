"""Runs of one pipeline side by side at its destination: each under the fence of its lane, every row once."""

import asyncio
import time

import asyncpg

from dataaggregator.ids import new_id
from services.executor.domain import Status
from tests.integration.executor.place import Place, a_definition, a_job
from tests.integration.executor.test_worker import count, crawling

ROWS = 40
SLOW = f"SELECT i::bigint AS id FROM generate_series(1, {ROWS}) i, LATERAL (SELECT pg_sleep(0.05 + i * 0)) s"
AT_WORK = (
    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LATERAL (SELECT pg_sleep%' AND pid <> pg_backend_pid()"
)
DEADLINE_SECONDS = 30.0


async def test_two_runs_of_a_pipeline_load_at_the_same_time_and_every_row_is_there_once_for_each(
    workplace: Place, empty_database_url: str
) -> None:
    """Under one fence the second would not read before the first has committed."""
    pipeline, definition = new_id(), crawling(workplace, empty_database_url, SLOW)
    runs = [await workplace.queue(pipeline_id=pipeline, definition=definition, lane=lane) for lane in (1, 2)]
    connection = await asyncpg.connect(empty_database_url)
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while await connection.fetchval(AT_WORK) < len(runs):
            assert time.monotonic() < deadline, "they never loaded at the same time"
            await asyncio.sleep(0.02)
    finally:
        await connection.close()
    ended = [await workplace.ended(run.run_id) for run in runs]
    assert [run.status for run in ended] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert [run.attempt for run in ended] == [1, 1]
    assert await count(empty_database_url) == ROWS * len(runs)


async def test_a_run_in_a_lane_is_given_no_cursor_of_its_pipeline(workplace: Place, empty_database_url: str) -> None:
    """Its fence at the destination is another, and has none; the cursor that the executor knows is not its own."""
    quick = f"SELECT i::bigint AS id FROM generate_series(1, {ROWS}) i"
    pipeline, definition = new_id(), crawling(workplace, empty_database_url, quick)
    for source in definition["sources"].values():
        source |= {"read": "incremental", "cursor_field": "id"}
    for lane, there in ((0, ROWS), (0, ROWS), (1, 2 * ROWS)):
        queued = await workplace.queue(pipeline_id=pipeline, definition=definition, lane=lane)
        run = await workplace.ended(queued.run_id)
        assert run.status is Status.SUCCEEDED, await workplace.error_detail(run.run_id)
        assert await count(empty_database_url) == there


def test_a_lane_has_one_fence_for_all_its_runs_and_no_other_lane_has_it() -> None:
    pipeline = new_id()
    jobs = [a_job(a_definition(), pipeline_id=pipeline, lane=lane) for lane in (0, 1, 1, 2)]
    alone, first, again, second = [job.fence for job in jobs]
    assert alone is None
    assert first == again != second
    assert first != a_job(a_definition(), lane=1).fence
