"""Executors that share no disk: what one rejected another shows and replays, after the first is gone with its disk."""

import asyncio
import io
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dataaggregator.client import Client
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.buckets import S3Endpoint
from tests.e2e.conftest import LIMITS, servers
from tests.e2e.full import FullPlatform, administrators

pytestmark = pytest.mark.timeout(300)

KEY = "canary-5up3r-s3cr3t-run-store-key"
SLICES = 2
GROUPS = ("auth connectors scheduler gateway", "executor")
NAMED = {"rule": "named", "check": {"not_null": "name"}}


class Apart(FullPlatform):
    """Each slice has a home, and so a disk, of its own."""

    def disk(self, number: int) -> Path:
        return self.home.path.with_name(f"disk-{number}")

    def _addresses(self, number: int) -> dict[str, str]:
        return {**super()._addresses(number), "DATAAGGREGATOR_HOME": str(self.disk(number))}


@pytest.fixture(scope="module")
def apart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, s3: S3Endpoint) -> Iterator[Apart]:
    folder, bucket = tmp_path_factory.mktemp("apart"), f"b{secrets.token_hex(8)}"
    s3.make_bucket(bucket)
    credentials = folder / "credentials"
    credentials.write_text(json.dumps({"access_key_id": "writer", "secret_access_key": KEY}))
    store = {
        "RUN_STORE": f"s3://{bucket}/rejected",
        "RUN_STORE_ENDPOINT": s3.address,
        "RUN_STORE_CREDENTIALS_FILE": str(credentials),
    }
    with servers(request, folder) as found:
        platform = Apart(folder, found, {**LIMITS, **store}, slices=SLICES, groups=GROUPS)
        with platform.running():
            yield platform


@pytest.fixture
async def clients(apart: Apart) -> AsyncIterator[list[Client]]:
    async with administrators(apart, SLICES) as made:
        yield made


def definition(*rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "people",
        "sources": {"people": {"connector": "people-db", "stream": "public.people"}},
        "transformations": [{"name": "clean", "steps": [{"validate": list(rules)}]}],
        "destinations": [{"connector": "people-db", "stream": "public.named"}],
    }


async def test_rejected_rows_of_an_executor_that_is_gone_with_its_disk_are_shown_and_replayed(
    apart: Apart, clients: list[Client], postgres_server: EmbeddedPostgres, empty_database_url: str
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE people AS VALUES (1, 'a'), (2, NULL), (3, 'c'), (4, NULL)")
    await connection.execute("ALTER TABLE people RENAME column1 TO id; ALTER TABLE people RENAME column2 TO name")
    config = {"name": "people-db", "type": "postgres", "config": {"url": empty_database_url}}
    await clients[0].post("/api/connectors", config)
    await clients[0].post("/api/pipelines", definition(NAMED))
    async with asyncio.timeout(120):
        run = await clients[0].finished_run((await clients[0].start_run("people"))["id"])
    assert (run["status"], run["rows_rejected"], run["warnings"]) == ("succeeded", 2, []), run["error"]

    holder = run["attempts"][0]["executor"]
    gone = next(n for n in range(SLICES) if f"-{apart.processes['executor', n].pid}-" in holder)
    apart.processes["executor", gone].kill()
    apart.processes.pop(("executor", gone)).wait()
    await asyncio.to_thread(shutil.rmtree, apart.disk(gone))

    other = clients[1 - gone]
    path = f"/api/runs/{run['id']}/rejected"
    rows = (await other.get(path))["items"]
    assert [row["row"] for row in rows] == [{"id": 2, "name": None}, {"id": 4, "name": None}]
    into = io.BytesIO()
    await other.download(f"{path}/download", into, format="ndjson")
    assert [json.loads(line) for line in into.getvalue().splitlines()] == rows
    await other.put("/api/pipelines/people", definition(NAMED | {"on_fail": "warn"}))
    async with asyncio.timeout(120):
        again = await other.finished_run((await other.post(f"{path}/replay", {}))["id"])
    assert (again["status"], again["rows_written"]) == ("succeeded", 2), again["error"]
    assert await connection.fetchval("SELECT count(DISTINCT id) FROM named") == 4
    await connection.close()

    status = await other.get("/api/status")
    (checked,) = (one for service in status["services"] for one in service["checks"] if one["name"] == "run-store")
    assert checked["ok"]
    events = [event async for event in other.run_events(run["id"])]
    for sink in (apart.log.read_bytes(), json.dumps([status, run, again, rows, events]).encode()):
        assert KEY.encode() not in sink
