"""Redis is killed, emptied, hung and cut off from single processes: what was revoked stays revoked, in all of them."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from dataaggregator.settings import Settings
from deploy.local.redis import PrivateRedis
from services.auth.app import build
from tests.faults import invariants
from tests.faults.invariants import Bus, Connection, Healed
from tests.faults.proxy import Proxy, Side
from tests.integration.auth.conftest import ADMIN, auth_settings
from tests.integration.redis.installation import BOUND_SECONDS, OTHERS, PROCESSES, Installation, open_installation

__all__ = ["auth_settings"]

pytestmark = pytest.mark.faults

ROUNDS = 6
HEALED_WITHIN_SECONDS = 30.0

OF_REDIS: tuple[Callable[[PrivateRedis], None], ...] = (
    PrivateRedis.flush,
    PrivateRedis.kill,
    PrivateRedis.restart,
    PrivateRedis.pause,
)
OF_A_PROCESS: tuple[Callable[[Proxy], None], ...] = (
    Proxy.cut,
    Proxy.black_hole,
    lambda proxy: proxy.half_open(Side.SERVER),
    lambda proxy: proxy.half_open(Side.CLIENT),
    lambda proxy: proxy.cut_after(10, Side.CLIENT),
    lambda proxy: proxy.cut_after(10, Side.SERVER),
)


@pytest.fixture
async def proxies(redis_server: PrivateRedis, redis_url: str) -> AsyncIterator[list[Proxy]]:
    """For each process a way of its own to Redis."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Proxy(redis_server.port)) for _ in range(PROCESSES)]


@pytest.fixture
async def installation(
    auth_settings: Settings, redis_server: PrivateRedis, redis_url: str, proxies: list[Proxy]
) -> AsyncIterator[Installation]:
    urls = [redis_url.replace(f":{redis_server.port}/", f":{proxy.port}/") for proxy in proxies]
    async with open_installation(auth_settings, urls) as installation:
        yield installation


def trouble(redis_server: PrivateRedis, proxies: list[Proxy], chance: random.Random) -> None:
    """Something befalls Redis, some of the ways to it, or both."""
    if redis_server.pid is not None and chance.random() < 0.7:
        redis_server.resume()
        chance.choice(OF_REDIS)(redis_server)
    for proxy in chance.sample(proxies, chance.randint(0, PROCESSES)):
        chance.choice(OF_A_PROCESS)(proxy)


def heal(redis_server: PrivateRedis, proxies: list[Proxy]) -> None:
    redis_server.resume()
    if redis_server.pid is None:
        redis_server.start()
    for proxy in proxies:
        proxy.heal()


@pytest.mark.tries(2, 20)
async def test_revoked_stays_revoked(
    installation: Installation,
    redis_server: PrivateRedis,
    proxies: list[Proxy],
    connection: Connection,
    chance: random.Random,
) -> None:
    living = await installation.auths[0].token()
    ended: list[str] = []
    refreshing: list[str] = []
    for _ in range(ROUNDS):
        auth = chance.choice(installation.auths)
        auth.clock.forward(60)  # or the account had too many logins
        pair = await auth.login()
        await installation.all_answer(pair["access_token"], 200, HEALED_WITHIN_SECONDS)
        before = chance.random() < 0.5
        if before:
            trouble(redis_server, proxies, chance)
        status, _, _ = await auth.call("POST", "/api/auth/logout", {"refresh_token": pair["refresh_token"]})
        assert status == 204
        if not before:
            trouble(redis_server, proxies, chance)
        await installation.all_answer(pair["access_token"], 401, BOUND_SECONDS)
        ended.append(pair["access_token"])
        refreshing.append(pair["refresh_token"])
        for token in ended:
            assert await installation.statuses(token) == [401] * OTHERS
        assert await installation.statuses(living) == [200] * OTHERS
        if chance.random() < 0.7:
            heal(redis_server, proxies)
    heal(redis_server, proxies)
    async with asyncio.timeout(HEALED_WITHIN_SECONDS):
        while True:
            if all(revocations._link.up for revocations in installation.revocations):
                break
            await asyncio.sleep(0.05)
    for token in ended:
        assert await installation.statuses(token) == [401] * OTHERS
    bus, secrets = Bus.of([build(installation.auths[0].ports)]), [ADMIN[1], living, *ended, *refreshing]
    await invariants.check(Healed("auth and who asks it", connection, bus, secrets=secrets))
