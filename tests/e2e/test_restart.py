"""A stop and a start on the same home: nothing is lost, and what was under way goes on by itself."""

import asyncio
import json
import time
from pathlib import Path

import aiohttp
import pytest

from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.e2e.api import DEADLINE_SECONDS, TERMINAL, Api
from tests.e2e.held import held_pipeline
from tests.e2e.platform import Platform
from tests.e2e.world import Site, Warehouse

AGAIN_SECONDS = 20.0


async def administrator(platform: Platform, http: aiohttp.ClientSession) -> Api:
    async with http.get(f"{platform.url}/api/openapi.json") as answer:
        document = await answer.json()
    credentials = platform.home.credentials()
    assert credentials is not None
    return await Api(http, platform.url, document).logged_in(*credentials)


def _settled(platform: Platform) -> int:
    """How many objects the platform has set apart as there for good, once it was up."""
    said = [json.loads(line) for line in platform.log.read_text().splitlines() if '"event":"settled"' in line]
    return int(said[-1]["objects"])


@pytest.fixture
async def second_warehouse(postgres_server: EmbeddedPostgres, empty_database_url: str) -> Warehouse:
    return Warehouse(empty_database_url)


async def test_a_stop_in_the_middle_of_a_run_loses_nothing(
    http: aiohttp.ClientSession, site: Site, second_warehouse: Warehouse, tmp_path: Path
) -> None:
    platform = Platform(tmp_path)
    platform.start()
    try:
        api = await administrator(platform, http)
        config = {"url": second_warehouse.url}
        await api.post("/api/connectors", {"name": "warehouse", "type": "postgres", "config": config})
        held = await held_pipeline(api, site, "kept")
        asked = await api.post("/api/pipelines/kept/runs", expect=202)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await held.asked.wait()
        paths = ("/api/connectors", "/api/pipelines", "/api/users", "/api/workspaces")
        before = [await api.get(path) for path in paths]
        assert before[1]["items"][0]["last_run"]["status"] == "running"
        assert _settled(platform) > 100_000

        assert await asyncio.to_thread(platform.stop) == 0, platform.printed()
        held.let_go.set()
        began = time.monotonic()
        await asyncio.to_thread(platform.start)
        assert time.monotonic() - began < AGAIN_SECONDS

        api = await administrator(platform, http)
        run = await api.ended(asked["id"])
        assert run["status"] == "succeeded", run["error"]
        assert await second_warehouse.rows("SELECT id FROM kept") == [(1,)]
        after = [await api.get(path) for path in paths]
        for found in (before[1], after[1]):
            for pipeline in found["items"]:
                assert (pipeline.pop("last_run") or {}).get("id") == asked["id"]
        for found in (before[2], after[2]):
            for user in found["items"]:
                user.pop("last_login_at")
        assert after == before
        tested = await api.post("/api/connectors/warehouse/test", expect=200)
        assert tested["ok"], "the sealed secret still opens"
        assert (await api.run("kept"))["status"] in TERMINAL
        assert (
            "shown only now"
            not in platform.log.read_text().partition("The platform is up")[2].partition("The platform is up")[2]
        )
    finally:
        if platform.home.gateway_url() is not None:
            assert await asyncio.to_thread(platform.stop) == 0, platform.printed()
