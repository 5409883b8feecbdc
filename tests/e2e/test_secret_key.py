"""SECRET_KEY is replaced under a platform: what was sealed, said and given out before is as good as it was."""

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from dataaggregator.client import Client
from dataaggregator.composition import compose
from dataaggregator.installed import installed_services
from dataaggregator.secrets import KeyRing
from dataaggregator.settings import Settings
from tests.e2e.conftest import LIMITS
from tests.e2e.platform import Platform

KEYS = [secrets.token_urlsafe(48) for _ in range(2)]


class Rekeyed(Platform):
    """A platform whose SECRET_KEY is in its environment, and can be another at the next start."""

    def take_keys(self, present: str, *previous: str) -> None:
        self._settings |= {"SECRET_KEY": present, "SECRET_KEY_PREVIOUS": ",".join(previous)}


@pytest.fixture
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rekeyed]:
    platform = Rekeyed(tmp_path_factory.mktemp("rekeyed"), LIMITS)
    platform.take_keys(KEYS[0])
    platform.start()
    yield platform
    platform.kill()


@asynccontextmanager
async def administrator(platform: Platform) -> AsyncIterator[Client]:
    """Logged in by the password."""
    credentials = platform.home.credentials()
    assert credentials is not None
    async with Client(platform.url) as client:
        await client.login(*credentials)
        yield client


async def made(client: Client, url: str) -> str:
    """Something sealed in each place; the API key."""
    await client.post("/api/connectors", {"name": "db", "type": "postgres", "config": {"url": url}})
    pipeline = {
        "name": "copy",
        "sources": {"rows": {"connector": "db", "stream": "public.one"}},
        "destinations": [{"connector": "db", "stream": "public.many", "write": "append"}],
        "triggers": [{"webhook": True}],
    }
    await client.post("/api/pipelines", pipeline)
    await client.post("/api/pipelines/copy/hook/rotate", {})
    await client.post("/api/webhooks", {"name": "ops", "url": "https://example.org/", "types": ["run.*"]})
    key = await client.post("/api/api-keys", {"name": "key", "scopes": ["runs:operate"]})
    return str(key["key"])


async def all_opens(platform: Platform, key: str) -> int:
    """How many secrets there are; raises Permanent for one that this key alone does not open."""
    ring, count = KeyRing(key), 0
    connection = await asyncpg.connect(platform.database_url)
    ports = compose(Settings.load({"DATABASE_URL": platform.database_url, "SECRET_KEY": key}))
    for sealed in (one for service in installed_services() for one in service.build(ports).sealed):
        for row in await connection.fetch(f"SELECT * FROM {sealed.table}"):
            aad, purpose = sealed.bound(dict(row))
            ring.open(row[sealed.column], aad=aad, purpose=purpose)
            count += 1
    await connection.close()
    return count


async def is_well(platform: Platform, api_key: str, tokens: tuple[str | None, str | None]) -> None:
    """What was given out before lets in, secrets open, and the audit is whole."""
    async with Client(platform.url, token=api_key) as program:
        told = await program.post("/api/connectors/db/test")
        assert told["ok"], told
    async with Client(platform.url, token=tokens[0], refresh_token=tokens[1]) as person:
        await person.get("/api/pipelines/copy")
        assert (await person.post("/api/audit/verify"))["ok"]
    async with administrator(platform) as again:
        assert (await again.get("/api/auth/me"))["email"]


async def test_a_rotation_under_a_running_platform_leaves_all_as_it_was_and_needs_the_old_key_no_more(
    platform: Rekeyed, empty_database_url: str
) -> None:
    async with administrator(platform) as client:
        api_key = await made(client, empty_database_url)
        tokens = client.tokens
    assert platform.stop() == 0
    platform.take_keys(KEYS[1], KEYS[0])
    platform.start()
    await is_well(platform, api_key, tokens)
    done = platform.command("--json", "secrets", "rotate")
    assert done.returncode == 0, done.stderr
    resealed = {one["table"]: one["resealed"] for one in json.loads(done.stdout)}
    assert resealed == {
        "auth.signing_keys": 1,
        "auth.peppers": 2,
        "connectors.secrets": 1,
        "gateway.webhook_secrets": 1,
        "scheduler.hook_tokens": 1,
    }
    await is_well(platform, api_key, tokens)
    assert platform.stop() == 0
    platform.take_keys(KEYS[1])
    platform.start()
    await is_well(platform, api_key, tokens)
    assert await all_opens(platform, KEYS[1]) == 6
    assert "SECRET_KEY_PREVIOUS is needed no more" in platform.command("secrets", "rotate").stdout
