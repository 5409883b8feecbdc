"""Memory at an executor with real run processes: what does not fit waits, what never fits is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from dataaggregator.settings import Settings
from services.executor.domain import Status
from tests.integration.executor.place import Place, open_place
from tests.integration.executor.test_worker import count, crawling

MIB = 1 << 20
SHORT = "SELECT i::bigint AS id FROM generate_series(1, 20) i, LATERAL (SELECT pg_sleep(0.05 + i * 0)) s"
FILTER = [{"name": "shaped", "inputs": ["a"], "steps": [{"filter": "id > 0"}]}]
LIMITS = {"run_slots": 3, "run_memory_bytes": 512 * MIB, "sandbox_memory_bytes": 512 * MIB}


@pytest.fixture
async def narrow(settings: Settings) -> AsyncIterator[Place]:
    """Room for one run with an engine, and for one without beside it."""
    async with open_place(
        settings.model_copy(update={**LIMITS, "executor_memory_bytes": 1536 * MIB}), working=True
    ) as place:
        yield place


def filtered(place: Place, warehouse: str, stream: str) -> dict[str, Any]:
    definition = crawling(place, warehouse, SHORT, transformations=FILTER)
    definition["destinations"][0] |= {"stream": stream, "input": "shaped"}
    return definition


async def test_runs_wait_for_the_memory_they_declare(narrow: Place, empty_database_url: str) -> None:
    names = [f"public.t{at}" for at in range(3)]
    queued = [await narrow.queue(definition=filtered(narrow, empty_database_url, name)) for name in names]
    looking = asyncio.create_task(_most_at_work(empty_database_url))
    runs = [await narrow.ended(one.run_id, 120) for one in queued]
    assert {run.status for run in runs} == {Status.SUCCEEDED}
    assert [await count(empty_database_url, name) for name in names] == [20, 20, 20]
    looking.cancel()
    assert await looking == 1
    lines = [await narrow.client.get(f"/api/runs/{one.run_id}/logs", limit=500) for one in queued]
    said = [line["message"] for found in lines for line in found["items"]]
    assert any("Waits for memory: the run declares 1,024 MiB, 512 MiB are free." in line for line in said), said


async def _most_at_work(warehouse: str) -> int:
    """How many sources were read at once, until it is cancelled."""
    connection = await asyncpg.connect(warehouse)
    most = 0
    asked = """SELECT count(*) FROM pg_stat_activity
        WHERE state = 'active' AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            most = max(most, await connection.fetchval(asked))
            await asyncio.sleep(0.02)
    await connection.close()
    return most


async def test_what_never_fits_is_refused_and_what_does_goes_on(settings: Settings, empty_database_url: str) -> None:
    changed = settings.model_copy(update={**LIMITS, "executor_memory_bytes": 1000 * MIB})
    async with open_place(changed, working=True) as place:
        large = await place.queue(definition=filtered(place, empty_database_url, "public.large"))
        small = await place.queue(definition=crawling(place, empty_database_url, SHORT))
        assert (await place.ended(large.run_id)).status is Status.FAILED
        assert await place.error(large.run_id) == "run-does-not-fit"
        assert (await place.ended(small.run_id)).status is Status.SUCCEEDED


async def test_a_run_beyond_its_memory_is_ended_and_its_neighbour_goes_on(
    settings: Settings, empty_database_url: str
) -> None:
    changed = settings.model_copy(update={**LIMITS, "run_memory_bytes": 256 * MIB})
    async with open_place(changed, working=True) as place:
        neighbour = await place.queue(definition=crawling(place, empty_database_url))
        endless = "SELECT repeat(md5(i::text), 4000000) AS text FROM generate_series(1, 8) i"
        definition = crawling(place, empty_database_url, endless)
        definition["destinations"][0] |= {"stream": "public.greedy"}
        greedy = await place.queue(definition=definition)
        assert (await place.ended(greedy.run_id, 120)).status is Status.FAILED
        assert await place.error(greedy.run_id) == "run-memory-exceeded"
        assert "256 MiB are declared" in await place.error_detail(greedy.run_id)
        assert (await place.ended(neighbour.run_id, 120)).status is Status.SUCCEEDED
    assert await count(empty_database_url) == 1000
