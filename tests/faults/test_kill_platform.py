"""The whole embedded platform is killed at a random moment of a 400,000-row load: after a restart the run ends by
itself and the destination holds exactly the expected rows."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.client import TERMINAL, Client
from tests.e2e.platform import Platform
from tests.faults.at_rest import check_embedded
from tests.faults.invariants import Loaded
from tests.faults.rows import Files, Warehouse, WriteMode

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

OLD, NEW = range(1, 1001), range(501, 400_501)
ENDS_WITHIN_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 4.0
# One administrator logs in before and after each kill, which is soon more often than one may in a minute.
LIMITS = {"RATE_LIMIT_LOGIN": "10000/60"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    started = Platform(tmp_path_factory.mktemp("killed"), LIMITS)
    started.start()
    try:
        yield started
    finally:
        assert started.stop() == 0, started.printed()


async def make_pipeline(client: Client, name: str, folder: Path, warehouse: str, write: WriteMode) -> str:
    """A pipeline from rows.csv to a table of its name; returns the table's."""
    table = f"public.{name.replace('-', '_')}"
    source = {"name": f"{name}-files", "type": "files", "config": {"root": f"file://{folder}", "format": "csv"}}
    await client.post("/api/connectors", source)
    await client.post("/api/connectors", {"name": f"{name}-db", "type": "postgres", "config": {"url": warehouse}})
    destination: dict[str, Any] = {"connector": f"{name}-db", "stream": table, "write": write}
    if write == "merge":
        destination["key"] = ["id"]
    pipeline = {
        "name": name,
        "sources": {"rows": {"connector": f"{name}-files", "stream": "rows.csv"}},
        "destinations": [destination],
    }
    await client.post("/api/pipelines", pipeline)
    return table


async def ended(client: Client, run_id: str) -> dict[str, Any]:
    """The run when it has ended; it is only looked at, never helped."""
    deadline = time.monotonic() + ENDS_WITHIN_SECONDS
    while True:
        run: dict[str, Any] = await client.get(f"/api/runs/{run_id}")
        if run["status"] in TERMINAL:
            return run
        assert time.monotonic() < deadline, f"I7: the run is still {run['status']}"
        await asyncio.sleep(0.2)


@pytest.mark.tries(1, 20)
@pytest.mark.parametrize("write", ["append", "replace", "merge"])
async def test_a_killed_platform_ends_its_run_after_a_restart(
    platform: Platform, warehouse: Warehouse, files: Files, write: WriteMode, chance: random.Random
) -> None:
    name = f"{write}-{chance.randrange(10**9)}"
    old, new = files.write("old", OLD), files.write("new", NEW)
    async with platform.client() as client:
        table = await make_pipeline(client, name, files.folder, warehouse.url, write)
        files.show(old)
        first = await client.start_run(name)
        assert (await ended(client, first["id"]))["status"] == "succeeded"
        files.show(new)
        run = await client.start_run(name)
        pause = chance.uniform(0, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause)
    platform.kill()
    platform.start()
    async with platform.client() as client:
        final = await ended(client, run["id"])
        assert final["status"] == "succeeded", f"killed after {pause:.3f} s: {final['error']}"
    oracle = await warehouse.make_oracle(table, write, old, new)
    await check_embedded(platform, warehouse, Loaded(table, oracle, run["id"]))
