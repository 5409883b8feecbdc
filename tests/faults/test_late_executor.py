"""An executor that is stopped beyond its lease and then goes on writes nothing late."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dataaggregator.client import Client
from dataaggregator.settings import Settings
from services.executor.domain import Status
from tests.e2e.platform import Platform
from tests.faults.at_rest import check_place
from tests.faults.invariants import Loaded
from tests.faults.rows import Warehouse
from tests.integration.executor.place import EMAIL, PASSWORD, SECRET_KEY, Place, open_place

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

BESIDE = "an executor beside an embedded platform"
ROWS = 60
QUERY = f"SELECT i::bigint AS id FROM generate_series(1, {ROWS}) i, LATERAL (SELECT pg_sleep(0.1 + i * 0)) s ORDER BY i"
# If it is stopped in the middle of a transaction, what that holds is held until the database undoes it.
LEASE = {"lease_seconds": 5.0, "heartbeat_seconds": 1.0, "fence_seconds": 3.0, "db_idle_seconds": 5.0}


@contextmanager
def first_executor(folder: Path, settings: Settings) -> Iterator[Platform]:
    """A whole platform on the test's database, to be stopped in its tracks."""
    assert settings.database_url is not None
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "SECRET_KEY": SECRET_KEY,
        "BOOTSTRAP_ADMIN_EMAIL": EMAIL,
        "BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
        **{name.upper(): str(value) for name, value in LEASE.items()},
    }
    platform = Platform(folder, environment)
    platform.start()
    try:
        yield platform
    finally:
        os.kill(platform.pid, signal.SIGCONT)
        assert platform.stop() == 0, platform.printed()


async def begun(platform: Platform, warehouse: str) -> tuple[str, dict[str, dict[str, object]]]:
    """A run that reads its first rows, and its connector as the second executor must find it."""
    async with Client(platform.url) as client:
        await client.login(EMAIL, PASSWORD)
        config = {"url": warehouse}
        connector = await client.post("/api/connectors", {"name": "db", "type": "postgres", "config": config})
        pipeline = {
            "name": "slow",
            "sources": {"rows": {"connector": "db", "query": QUERY}},
            "destinations": [{"connector": "db", "stream": "public.rows", "write": "append"}],
        }
        await client.post("/api/pipelines", pipeline)
        run = await client.start_run("slow")
        deadline = time.monotonic() + 30
        while (await client.get(f"/api/runs/{run['id']}"))["status"] != "running":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    return run["id"], {connector["id"]: {"type": "postgres", "config": config}}


@pytest.mark.tries(2, 20)
async def test_an_executor_stopped_beyond_its_lease_writes_nothing_late(
    settings: Settings, warehouse: Warehouse, tmp_path: Path, chance: random.Random
) -> None:
    settings = settings.model_copy(update=LEASE)
    with ExitStack() as first:
        platform = first.enter_context(first_executor(tmp_path, settings))
        run_id, connectors = await begun(platform, warehouse.url)
        await asyncio.sleep(chance.uniform(0, 6))
        os.kill(platform.pid, signal.SIGSTOP)
        async with open_place(settings, working=True, connectors=connectors) as second:
            ended = await second.ended(run_id)
            os.kill(platform.pid, signal.SIGCONT)
            assert ended.status is Status.SUCCEEDED, await second.error_detail(run_id)
            before = await second.said(run_id)
            await noticed(platform, second, run_id)
            first.close()  # what it was about to write is written or never will be
            assert await second.said(run_id) == before
            assert before.count("succeeded") == 1
            wanted = f"CREATE TABLE oracle AS SELECT generate_series(1, {ROWS})::bigint AS id"
            await warehouse.connection.execute(wanted)
            await check_place(second, warehouse, Loaded("public.rows", "oracle", run_id), BESIDE)


async def noticed(platform: Platform, second: Place, run_id: str) -> None:
    """The late executor goes on and has found that the run is not its own any more, if it had not ended it before."""
    if (await second.run_now(run_id)).epoch == 1:
        return
    deadline = time.monotonic() + 30
    while not any(word in platform.log.read_text(errors="replace") for word in ("lease_fenced", "lease_overtaken")):
        assert time.monotonic() < deadline, platform.printed()
        await asyncio.sleep(0.05)
