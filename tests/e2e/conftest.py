"""One platform for all end-to-end tests of a worker, what it is connected to, and those who call it.

It ends with them: a platform at rest costs the tests that come after a part of a core.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import pytest

from dataaggregator.client import Client
from dataaggregator.embedded.postgres import EmbeddedPostgres
from deploy.local.rabbitmq import Broker
from deploy.local.redis import PrivateRedis
from tests.e2e.api import PASSWORD, Api
from tests.e2e.full import FullPlatform, Servers
from tests.e2e.platform import Platform
from tests.e2e.world import Disk, Site, Warehouse
from tests.serving import answering
from tests.sql import execute

# One user makes all calls of all tests; that limits hold is the gateway's own tests' matter.
LIMITS = {"RATE_LIMIT_API": "1000000/60", "RATE_LIMIT_LOGIN": "10000/60", "RATE_LIMIT_RUN": "10000/60"}


@pytest.fixture(scope="package", params=["embedded", "full"])
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that is up, in each of the two compositions."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as held:
        if request.param == "embedded":
            started = Platform(folder, LIMITS)
        else:
            started = FullPlatform(folder, held.enter_context(servers(request, folder)), LIMITS)
        held.enter_context(started.running())
        yield started


@contextmanager
def servers(request: pytest.FixtureRequest, folder: Path) -> Iterator[Servers]:
    """A database, a virtual host and a Redis for one full platform."""
    postgres: EmbeddedPostgres = request.getfixturevalue("postgres_server")
    broker: Broker = request.getfixturevalue("rabbit_server")
    name = f"platform_{secrets.token_hex(4)}"
    asyncio.run(execute(postgres.url, f"CREATE DATABASE {name}"))
    with PrivateRedis(folder / "redis") as redis:
        yield Servers(postgres.url.rpartition("/")[0] + f"/{name}", broker.make_vhost(name), broker, redis)
    broker.drop_vhost(name)


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform as `make up` starts it: with the demo's sources and pipelines."""
    started = Platform(tmp_path_factory.mktemp("demo"), demo=True)
    with started.running():
        started.wait_for_output("The demo's pipelines are ready")
        yield started


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[Client]:
    """The administrator's client."""
    async with platform.client() as client:
        yield client


@pytest.fixture(scope="session")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture(scope="package")
async def api(platform: Platform, http: aiohttp.ClientSession) -> Api:
    """The administrator, in the workspace `default`."""
    async with http.get(f"{platform.url}/api/openapi.json") as answer:
        document = await answer.json()
    credentials = platform.home.credentials()
    assert credentials is not None
    return await Api(http, platform.url, document).logged_in(*credentials)


@pytest.fixture(scope="package")
async def viewer(api: Api) -> Api:
    """Somebody who may only look at the workspace `default`."""
    return await api.newcomer("viewer")


@pytest.fixture(scope="package")
async def operator(api: Api) -> Api:
    """Somebody who may run things in the workspace `default`."""
    return await api.newcomer("operator")


@pytest.fixture(scope="package")
async def stranger(api: Api) -> Api:
    """The administrator of another workspace, who is nothing in `default`."""
    await api.post("/api/workspaces", {"name": "elsewhere"})
    user = await api.new_user("viewer")
    await api.post("/api/workspaces/elsewhere/members", {"user": user["id"], "role": "admin"})
    await api.delete(f"/api/workspaces/default/members/{user['id']}")
    stranger = await api.logged_in(user["email"], PASSWORD)
    assert [one["name"] for one in (await stranger.get("/api/auth/me"))["memberships"]] == ["elsewhere"]
    return stranger


@pytest.fixture(scope="package")
async def disk(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A folder, and the connector `disk` to it."""
    folder = tmp_path_factory.mktemp("disk")
    await api.post("/api/connectors", {"name": "disk", "type": "files", "config": {"root": folder.as_uri()}})
    return Disk(folder)


@pytest.fixture(scope="package")
async def warehouse(api: Api, postgres_server: EmbeddedPostgres) -> Warehouse:
    """A database on a server of its own, and the connector `warehouse` to it."""
    name = f"warehouse_{secrets.token_hex(4)}"
    await execute(postgres_server.url, f"CREATE DATABASE {name}")
    url = postgres_server.url.rpartition("/")[0] + f"/{name}"
    await api.post("/api/connectors", {"name": "warehouse", "type": "postgres", "config": {"url": url}})
    return Warehouse(url)


@pytest.fixture(scope="session")
async def site() -> AsyncIterator[Site]:
    """A web API whose answers a test chooses."""
    site = Site()
    async with answering(site.answer) as site.url:
        yield site
