"""The main job in small: a file, a paged API and a table, joined and aggregated, into PostgreSQL and Parquet."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from dataaggregator.dataplane.job import RunJob
from tests.serving import served

from .conftest import Bench

CITIES = "id,city,country,people\n" + "".join(f"{n},City {n},C{n % 7},{n * 10}\n" for n in range(200)) + "bad,line\n"

POSTED: list[dict[str, Any]] = []


@pytest.fixture
async def api() -> AsyncIterator[str]:
    """Countries, three a page, at /countries?page=N."""

    async def countries(request: web.Request) -> web.Response:
        first = (int(request.query.get("page", "1")) - 1) * 3
        items = [{"country": f"C{n}", "continent": "East" if n % 2 else "West"} for n in range(6)]
        return web.json_response({"items": items[first : first + 3]})

    async def take(request: web.Request) -> web.Response:
        POSTED.extend(await request.json())
        return web.Response(status=204)

    application = web.Application()
    application.router.add_get("/countries", countries)
    application.router.add_post("/posted", take)
    async with served(application) as url:
        yield url


@pytest.fixture
async def job(bench: Bench, db: asyncpg.Connection, api: str, empty_database_url: str) -> RunJob:
    (bench.folder / "in").mkdir()
    (bench.folder / "out").mkdir()
    (bench.folder / "in" / "cities.csv").write_text(CITIES)
    await db.execute(
        "CREATE TABLE currencies AS SELECT 'C' || n AS country, n * 1.5 AS rate FROM generate_series(0, 6) n"
    )
    stream = {"path": "/countries", "records": "$.items", "pagination": {"type": "page"}}
    bench.connector("files", "files", {"root": f"file://{bench.folder}/in"})
    bench.connector("lake", "files", {"root": f"file://{bench.folder}/out"})
    bench.connector("api", "http", {"base_url": api, "streams": {"countries": stream}})
    bench.connector("pg", "postgres", {"url": empty_database_url})
    return bench.job(
        {
            "cities": {"connector": "files", "stream": "cities.csv", "schema": {"id": "bigint", "people": "bigint"}},
            "countries": {"connector": "api", "stream": "countries"},
            "currencies": {"connector": "pg", "stream": "public.currencies"},
        },
        [
            {"connector": "pg", "input": "totals", "stream": "public.totals", "write": "merge", "key": ["continent"]},
            {"connector": "lake", "input": "totals", "stream": "totals.parquet", "write": "replace"},
        ],
        [
            {"name": "clean", "inputs": ["cities"], "steps": [{"filter": "people >= 100"}]},
            {
                "name": "totals",
                "inputs": ["clean", "countries", "currencies"],
                "steps": [
                    {"join": {"with": "countries", "on": ["country"], "how": "inner", "expect": "many_to_one"}},
                    {"join": {"with": "currencies", "on": ["country"], "how": "left", "expect": "many_to_one"}},
                    {"aggregate": {"by": ["continent"], "measures": {"cities": "count(*)", "people": "sum(people)"}}},
                ],
            },
        ],
    )


async def test_three_kinds_of_sources_reach_two_destinations_with_a_balanced_ledger(
    bench: Bench, db: asyncpg.Connection, job: RunJob
) -> None:
    outcome = await bench.run(job)
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert [one.status for one in outcome.destinations] == ["succeeded", "succeeded"]
    assert [one.verified for one in outcome.ledger.receipts] == [True, True]

    kept = [n for n in range(200) if n * 10 >= 100 and n % 7 < 6]
    expected = {
        side: (len(rows), sum(n * 10 for n in rows))
        for side, odd in (("East", 1), ("West", 0))
        if (rows := [n for n in kept if n % 7 % 2 == odd])
    }
    held = await db.fetch("SELECT continent, cities, people FROM totals")
    assert {row["continent"]: (row["cities"], row["people"]) for row in held} == expected
    (path,) = (bench.folder / "out").rglob("*.parquet")
    written = pq.read_table(path).to_pylist()
    assert {row["continent"]: (row["cities"], row["people"]) for row in written} == expected

    (unreadable,) = [entry for entry in outcome.quarantine if entry.stage == "cities"]
    assert unreadable.position is not None
    assert unreadable.position.startswith("cities.csv:202")
    (row,) = pq.read_table(Path(job.folder) / unreadable.file).to_pylist()
    assert "bad" in json.dumps(row)


async def test_the_same_job_again_doubles_nothing(bench: Bench, db: asyncpg.Connection, job: RunJob) -> None:
    assert (await bench.run(job)).status == "succeeded"
    before = await db.fetch("SELECT * FROM totals ORDER BY 1")
    next_run = job.model_copy(update={"run_id": job.pipeline_id, "epoch": 2, "folder": job.folder + "-next"})
    outcome = await bench.run(next_run)
    assert (outcome.status, outcome.error) == ("succeeded", None)
    assert await db.fetch("SELECT * FROM totals ORDER BY 1") == before


async def test_rows_posted_to_an_api_are_a_success_without_a_receipt_to_read_back(
    bench: Bench, db: asyncpg.Connection, api: str, empty_database_url: str
) -> None:
    await db.execute("CREATE TABLE currencies AS SELECT n AS id, n * 1.5 AS rate FROM generate_series(0, 6) n")
    bench.connector("api", "http", {"base_url": api, "streams": {"posted": {"path": "/posted"}}})
    bench.connector("pg", "postgres", {"url": empty_database_url})
    sources = {"currencies": {"connector": "pg", "stream": "public.currencies"}}
    out = {"connector": "api", "input": "currencies", "stream": "posted", "write": "append"}
    POSTED.clear()
    outcome = await bench.run(bench.job(sources, [out]))
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert (outcome.ledger.accounting, outcome.ledger.receipts[0].verified) == ("declared", False)
    assert [row["id"] for row in POSTED] == list(range(7))
