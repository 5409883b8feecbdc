"""The gateway on Redis, and without it: reads go on, logins are counted in the database, run starts wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from dataaggregator.limits.redis import RedisLimits
from dataaggregator.settings import Settings
from deploy.local.redis import PrivateRedis

from .conftest import Platform, started


@pytest.fixture
async def replicas(platform_settings: Settings, redis_url: str) -> AsyncIterator[list[Platform]]:
    """Two gateways on one database and one Redis; their clocks tell the same."""
    async with AsyncExitStack() as stack:
        limits = [RedisLimits(redis_url, platform_settings.rates()) for _ in range(2)]
        first, second = [await stack.enter_async_context(started(platform_settings, each)) for each in limits]
        first.clock.forward((second.clock.now() - first.clock.now()).total_seconds())
        yield [first, second]


@pytest.fixture
async def deserted(replicas: list[Platform], redis_server: PrivateRedis) -> AsyncIterator[list[Platform]]:
    """The same, and Redis is dead."""
    redis_server.kill()
    yield replicas
    if redis_server.pid is None:
        redis_server.start()


async def logins(replicas: list[Platform], count: int) -> list[int]:
    """The statuses, sorted, of logins at once from one address for ever new accounts, at the replicas in turn."""

    async def login(number: int) -> int:
        body = {"email": f"{number}@example.org", "password": "x"}
        status, _, _ = await replicas[number % len(replicas)].call("POST", "/api/auth/login", body, token="")
        return status

    return sorted(await asyncio.gather(*(login(number) for number in range(count))))


async def test_replicas_share_one_limit(replicas: list[Platform]) -> None:
    statuses = await logins(replicas, 12)
    assert statuses == [401] * 8 + [429] * 4  # two logins were the administrator's


async def test_reads_go_on_with_a_limit_of_the_process(deserted: list[Platform]) -> None:
    for platform in deserted:
        status, _, headers = await platform.call("GET", "/api/pipelines")
        assert status == 200
        assert headers["RateLimit-Limit"] == "600"
        assert headers["RateLimit-Remaining"] == "599"


async def test_logins_of_an_address_are_counted_in_the_database(deserted: list[Platform]) -> None:
    statuses = await logins(deserted, 14)
    assert statuses == [401] * 10 + [429] * 4
    for platform in deserted:
        platform.clock.forward(60)
    assert (await logins(deserted[:1], 1)) == [401]
    body = {"email": "x@example.org", "password": "x"}
    _, _, headers = await deserted[0].call("POST", "/api/auth/login", body, token="")
    assert headers["RateLimit-Remaining"] == "8"


async def test_without_the_database_as_well_no_login_goes_by(deserted: list[Platform]) -> None:
    platform = deserted[0]
    platform.ports.directory.put("auth", platform.ports.directory.url("scheduler"))  # where a login is told 404
    await platform.ports.database.close()
    try:
        body = {"email": "x@example.org", "password": "x"}
        status, told, headers = await platform.call("POST", "/api/auth/login", body, token="")
        assert (status, told["code"]) == (503, "database-unavailable")
        assert int(headers["Retry-After"]) >= 1
    finally:
        await platform.ports.database.open()


async def test_run_starts_wait_and_say_so(deserted: list[Platform], redis_server: PrivateRedis) -> None:
    platform = deserted[0]
    status, told, headers = await platform.call("POST", "/api/pipelines/x/runs")
    assert (status, told["code"]) == (503, "limits-unavailable")
    assert int(headers["Retry-After"]) >= 1
    assert platform.upstream.started == 0
    redis_server.start()
    await answered(platform)
    assert (await platform.call("POST", "/api/pipelines/x/runs"))[0] == 202


async def test_the_status_says_that_the_limits_are_not_kept_together(deserted: list[Platform]) -> None:
    _, told, _ = await deserted[0].call("GET", "/api/status")
    assert told["status"] == "degraded"
    assert (told["limits"]["ok"], told["limits"]["code"]) == (False, "limits-unavailable")
    assert told["limits"]["help"] == "docs/troubleshooting/errors.md#limits-unavailable"


async def answered(platform: Platform) -> None:
    """Wait until the gateway has found its Redis."""
    async with asyncio.timeout(10):
        while True:
            _, told, _ = await platform.call("GET", "/api/status")
            if told["limits"]["ok"]:
                return
            await asyncio.sleep(0.05)
