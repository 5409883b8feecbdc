"""A log-out and a deactivation end tokens in every process within two seconds, whatever happens to Redis meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest
from pydantic import BaseModel

from dataaggregator.bus import EmbeddedBus
from dataaggregator.directory import Directory
from dataaggregator.host import Host
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.revoked import AskAuth
from dataaggregator.http.route import Route
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.permissions import Permission
from dataaggregator.ports import Ports
from dataaggregator.revocations.redis import RedisRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.service import Service
from dataaggregator.settings import Settings
from deploy.local.redis import PrivateRedis
from tests.integration.auth.conftest import Api, SetClock, auth_settings, started

__all__ = ["auth_settings"]

BOUND_SECONDS = 2.0
REPLICAS = 3


class Seen(BaseModel):
    """That somebody was let in."""

    seen: bool


@dataclass
class Installation:
    """Two replicas of auth and three of another service, each as a process of its own would be."""

    auths: list[Api]
    urls: list[str]
    http: aiohttp.ClientSession

    async def statuses(self, token: str) -> list[int]:
        """What each replica of the other service answers to this token."""
        return list(await asyncio.gather(*(self._status(url, token) for url in self.urls)))

    async def _status(self, url: str, token: str) -> int:
        async with self.http.get(f"{url}/api/seen", headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status

    async def all_answer(self, token: str, status: int, seconds: float) -> None:
        """Wait until every replica answers so; fails when that takes longer."""
        async with asyncio.timeout(seconds):
            while True:
                if await self.statuses(token) == [status] * REPLICAS:
                    return
                await asyncio.sleep(0.02)


def revocations(url: str, settings: Settings, clock: SetClock, directory: Directory) -> RedisRevocations:
    assert settings.secret_key is not None
    keys = KeyRing(settings.secret_key.get_secret_value())
    return RedisRevocations(url, clock, AskAuth(directory, keys, clock, "trial"))


async def _seen(_: Call) -> Answer:
    return Answer(Seen(seen=True))


@pytest.fixture
async def installation(auth_settings: Settings, redis_url: str) -> AsyncIterator[Installation]:
    clock = SetClock()
    route = Route("GET", "/api/seen", _seen, "Be let in", "trial", Permission.SELF, answers={200: Seen})
    async with AsyncExitStack() as stack:
        auths, urls = [], []
        for _ in range(2):
            directory = Directory()
            told = revocations(redis_url, auth_settings, clock, directory)
            auths.append(await stack.enter_async_context(started(auth_settings, clock, told, directory)))
        for number in range(REPLICAS):
            directory = Directory()
            directory.put("auth", auths[number % 2].url)
            database = auths[0].ports.database
            ports = Ports(
                settings=auth_settings,
                database=database,
                bus=EmbeddedBus(database, auth_settings),
                limits=InProcessLimits({}),
                revocations=revocations(redis_url, auth_settings, clock, directory),
                directory=directory,
                keys=auths[0].ports.keys,
                clock=clock,
            )
            await stack.enter_async_context(Host([Service("trial", [route])], ports, handle_signals=False))
            urls.append(directory.url("trial"))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Installation(auths, urls, http)


def nothing(_: PrivateRedis) -> None:
    """Redis is well."""


TROUBLES: list[Callable[[PrivateRedis], None]] = [
    nothing,
    PrivateRedis.flush,
    PrivateRedis.kill,
    PrivateRedis.restart,
    PrivateRedis.pause,
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: str(trouble.__name__))
async def test_no_replica_lets_a_token_in_that_was_ended(
    installation: Installation, redis_server: PrivateRedis, trouble: Callable[[PrivateRedis], None], when: str
) -> None:
    auth = installation.auths[0]
    admin = await auth.token()
    user = await auth.user("ann", token=admin)
    left = await auth.login("ann@example.org", "ann's password")
    ended = await auth.token("ann@example.org", "ann's password")
    await installation.all_answer(left["access_token"], 200, 10)
    try:
        if when == "before":
            trouble(redis_server)
        status, _, _ = await auth.call("POST", "/api/auth/logout", {"refresh_token": left["refresh_token"]})
        assert status == 204
        if when == "after":
            trouble(redis_server)
        await installation.all_answer(left["access_token"], 401, BOUND_SECONDS)
        assert await installation.statuses(ended) == [200] * REPLICAS
        status, _, _ = await auth.call("PATCH", f"/api/users/{user['id']}", {"active": False}, token=admin)
        assert status == 200
        await installation.all_answer(ended, 401, BOUND_SECONDS)
        assert await installation.statuses(left["access_token"]) == [401] * REPLICAS
        assert await installation.statuses(admin) == [200] * REPLICAS
    finally:
        redis_server.resume()
        if redis_server.pid is None:
            redis_server.start()


async def test_what_one_replica_of_auth_revoked_the_other_tells(
    installation: Installation, redis_server: PrivateRedis
) -> None:
    """The first wrote it down and died before it could tell anybody."""
    first, second = installation.auths
    pair = await first.login()
    await installation.all_answer(pair["access_token"], 200, 10)
    silent = first.ports.revocations
    await silent.close()
    status, _, _ = await first.call("POST", "/api/auth/logout", {"refresh_token": pair["refresh_token"]})
    assert status == 204
    await installation.all_answer(pair["access_token"], 401, BOUND_SECONDS)
    status, _, _ = await second.call("GET", "/api/auth/me", token=pair["access_token"])
    assert status == 401


async def test_only_our_services_may_ask_what_is_revoked(installation: Installation) -> None:
    auth = installation.auths[0]
    status, _, _ = await auth.call("GET", "/internal/revocations")
    assert status == 401
    status, _, _ = await auth.call("GET", "/internal/revocations", token=await auth.token())
    assert status == 403
