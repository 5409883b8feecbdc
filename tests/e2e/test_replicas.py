"""Three of each service on the same servers: together they do each thing once, and one may leave at any time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from dataaggregator.client import Client
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.e2e.api import until
from tests.e2e.conftest import LIMITS, servers
from tests.e2e.full import FullPlatform, administrators

pytestmark = pytest.mark.timeout(300)

SLICES = 3
GROUPS = ("auth connectors scheduler gateway", "executor")
RUNS = 24
SLOW = "SELECT i::bigint AS id FROM generate_series(1, 100) i, LATERAL (SELECT pg_sleep(0.05 + i * 0)) s"


@pytest.fixture(scope="module")
def three(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullPlatform]:
    """Six processes: the executors, which must go alone, and all others of a slice in one."""
    folder = tmp_path_factory.mktemp("three")
    with servers(request, folder) as found:
        platform = FullPlatform(folder, found, LIMITS, slices=SLICES, groups=GROUPS)
        with platform.running():
            yield platform


@pytest.fixture
async def clients(three: FullPlatform) -> AsyncIterator[list[Client]]:
    """The administrator at each gateway."""
    async with administrators(three, SLICES) as made:
        yield made


@pytest.fixture
async def table(postgres_server: EmbeddedPostgres, empty_database_url: str) -> AsyncIterator[tuple[str, Any]]:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE one AS SELECT 1::bigint AS id; CREATE TABLE many (LIKE one)")
    yield empty_database_url, connection
    await connection.close()


async def make_pipeline(client: Client, name: str, url: str, source: dict[str, Any]) -> None:
    await client.post("/api/connectors", {"name": f"{name}-db", "type": "postgres", "config": {"url": url}})
    definition = {
        "name": name,
        "sources": {"rows": {"connector": f"{name}-db", **source}},
        "destinations": [{"connector": f"{name}-db", "stream": "public.many", "write": "append"}],
    }
    await client.post("/api/pipelines", definition)


async def test_runs_asked_for_everywhere_are_each_done_once_and_followed_from_anywhere(
    clients: list[Client], table: tuple[str, Any]
) -> None:
    url, connection = table
    await make_pipeline(clients[0], "everywhere", url, {"stream": "public.one"})

    async def one(number: int) -> str:
        asked, followed = clients[number % SLICES], clients[(number + 1) % SLICES]
        run = await asked.start_run("everywhere")
        types = [event["type"] async for event in followed.run_events(run["id"])]
        assert types.count("run.queued.v1") == types.count("run.succeeded.v1") == 1, types
        return str(run["id"])

    async with asyncio.timeout(200):
        done = await asyncio.gather(*(one(number) for number in range(RUNS)))
    assert len(set(done)) == RUNS
    assert await connection.fetchval("SELECT count(*) FROM many") == RUNS
    runs = [await clients[2].get(f"/api/runs/{run}") for run in done]
    assert {len(run["attempts"]) for run in runs} == {1}, [r["attempts"] for r in runs if len(r["attempts"]) > 1]
    assert all(run["balanced"] for run in runs)


async def test_a_stopping_executor_hands_its_run_to_another_and_no_attempt_is_spent(
    three: FullPlatform, clients: list[Client], table: tuple[str, Any]
) -> None:
    url, connection = table
    await make_pipeline(clients[0], "slow", url, {"query": SLOW})
    run = await clients[0].start_run("slow")

    async def attempts_of() -> Any:
        return (await clients[0].get(f"/api/runs/{run['id']}"))["attempts"] or None

    attempts = await until(attempts_of, "an attempt")
    holder = attempts[0]["executor"]
    number = next(n for n in range(SLICES) if f"-{three.processes['executor', n].pid}-" in holder)
    assert await asyncio.to_thread(three.stop_group, "executor", number) == 0, three.printed()
    three.start_group("executor", number)
    async with asyncio.timeout(120):
        ended = await clients[0].finished_run(run["id"])
    assert ended["status"] == "succeeded", ended["error"]
    assert await connection.fetchval("SELECT count(*) FROM many") == 100
    assert ended["attempts"][-1]["executor"] != holder
    assert ended["attempts"][-1]["number"] == 1, "what is handed back does not count"
    await asyncio.to_thread(three.wait_until_ready)


async def test_one_of_each_may_leave_and_the_others_take_its_work(
    three: FullPlatform, clients: list[Client], table: tuple[str, Any]
) -> None:
    url, connection = table
    await make_pipeline(clients[0], "alone", url, {"stream": "public.one"})
    for group in GROUPS:
        three.processes[group, SLICES - 1].kill()
        three.processes.pop((group, SLICES - 1)).wait()
    async with asyncio.timeout(120):
        for client in clients[: SLICES - 1]:
            run = await client.finished_run((await client.start_run("alone"))["id"])
            assert run["status"] == "succeeded", run["error"]
    assert await connection.fetchval("SELECT count(*) FROM many") == SLICES - 1
    for group in GROUPS:
        three.start_group(group, SLICES - 1)
    await asyncio.to_thread(three.wait_until_ready)
