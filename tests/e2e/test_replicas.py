"""Three of each service on the same servers: they do each thing once, obey one another, and may leave at any time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import asyncpg
import pytest

from dataaggregator.client import Client
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.ids import new_id
from tests.e2e.api import LOOK_SECONDS, PASSWORD, until
from tests.e2e.conftest import LIMITS, servers
from tests.e2e.full import FullPlatform, administrators

pytestmark = pytest.mark.timeout(300)

SLICES = 3
GROUPS = ("auth connectors scheduler gateway", "executor")
RUNS = 24
ENDED_WITHIN_SECONDS = 2.0
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


# What lets somebody in as a header of their calls, and what ends it; each made by and at this gateway.
Way = tuple[dict[str, str], Callable[[], Awaitable[object]]]


async def logged_in(admin: Client, *, browser: bool) -> tuple[str, Any]:
    """A new user's id, and the answer to their login: tokens, or a session by cookie."""
    email = f"{new_id().hex}@example.org"
    user = await admin.post("/api/users", {"email": email, "password": PASSWORD, "role": "viewer"})
    login = f"{admin.url}/api/auth/login{'?session=cookie' if browser else ''}"
    async with aiohttp.ClientSession() as http, http.post(login, json={"email": email, "password": PASSWORD}) as answer:
        told = await answer.json()
        assert answer.status == 200, told
        cookie = SimpleCookie(answer.headers.get("Set-Cookie", ""))
        told["cookie"] = "; ".join(f"{name}={morsel.value}" for name, morsel in cookie.items())
        return user["id"], told


async def token_of_a_deactivated_user(admin: Client) -> Way:
    user, told = await logged_in(admin, browser=False)
    headers = {"Authorization": f"Bearer {told['access_token']}"}
    return headers, lambda: admin.patch(f"/api/users/{user}", {"active": False})


async def token_that_was_logged_out(admin: Client) -> Way:
    _, told = await logged_in(admin, browser=False)
    body = {"refresh_token": told["refresh_token"]}
    return {"Authorization": f"Bearer {told['access_token']}"}, lambda: admin.post("/api/auth/logout", body)


async def key_that_was_taken_back(admin: Client) -> Way:
    name = new_id().hex
    robot = {"email": f"{name}@example.org", "service": True, "role": "viewer"}
    await admin.post("/api/users", robot)
    key = await admin.post("/api/api-keys", {"name": name, "scopes": ["runs:read"], "owner": robot["email"]})
    return {"Authorization": f"Bearer {key['key']}"}, lambda: admin.delete(f"/api/api-keys/{key['id']}")


async def session_of_a_deactivated_user(admin: Client) -> Way:
    user, told = await logged_in(admin, browser=True)
    return {"Cookie": told["cookie"]}, lambda: admin.patch(f"/api/users/{user}", {"active": False})


async def session_that_was_logged_out(admin: Client) -> Way:
    _, told = await logged_in(admin, browser=True)
    headers = {"Cookie": told["cookie"]}

    async def end() -> None:
        own = {**headers, "X-CSRF-Token": told["csrf_token"]}
        async with aiohttp.ClientSession() as http, http.post(f"{admin.url}/api/auth/logout", headers=own) as answer:
            assert answer.status == 204

    return headers, end


@pytest.mark.parametrize(
    "made",
    [
        token_of_a_deactivated_user,
        token_that_was_logged_out,
        key_that_was_taken_back,
        session_of_a_deactivated_user,
        session_that_was_logged_out,
    ],
)
async def test_what_was_ended_lets_in_nowhere_after_two_seconds_though_redis_was_emptied(
    three: FullPlatform, clients: list[Client], made: Callable[[Client], Awaitable[Way]]
) -> None:
    headers, end = await made(clients[0])
    places = [three.gateway(number) + path for number in range(SLICES) for path in ("/api/auth/me", "/api/runs")]
    async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as http:

        async def status(url: str) -> int:
            async with http.get(url) as answer:
                return answer.status

        async def statuses() -> set[int]:
            return set(await asyncio.gather(*(status(url) for url in places)))

        assert await statuses() == {200}  # every gateway now remembers that it lets them in
        await end()
        ended = time.monotonic()
        three.redis.flush()
        while (seen := await statuses()) != {401}:
            assert time.monotonic() - ended < ENDED_WITHIN_SECONDS, seen
            await asyncio.sleep(LOOK_SECONDS)
        three.redis.flush()
        assert await statuses() == {401}


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
