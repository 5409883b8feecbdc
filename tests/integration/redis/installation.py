"""Two replicas of auth and three of another service on one Redis, each as a process of its own would be."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
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
from tests.integration.auth.conftest import Api, SetClock, started

BOUND_SECONDS = 2.0
AUTHS, OTHERS = 2, 3
PROCESSES = AUTHS + OTHERS


class Seen(BaseModel):
    """That somebody was let in."""

    seen: bool


@dataclass
class Installation:
    """The processes as their callers see them; ``revocations`` has one for each, auth's first."""

    auths: list[Api]
    urls: list[str]
    http: aiohttp.ClientSession
    revocations: list[RedisRevocations]

    async def statuses(self, token: str) -> list[int]:
        """What each replica of the other service answers to this token."""
        return list(await asyncio.gather(*(self._status(url, token) for url in self.urls)))

    async def all_answer(self, token: str, status: int, seconds: float) -> None:
        """Wait until every replica answers so; fails when that takes longer."""
        async with asyncio.timeout(seconds):
            while True:
                if await self.statuses(token) == [status] * OTHERS:
                    return
                await asyncio.sleep(0.02)

    async def _status(self, url: str, token: str) -> int:
        async with self.http.get(f"{url}/api/seen", headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status


@asynccontextmanager
async def open_installation(settings: Settings, redis_urls: Sequence[str]) -> AsyncIterator[Installation]:
    """From start to stop; each process has a way of its own to Redis, auth's first."""
    clock, directories = SetClock(), [Directory() for _ in range(PROCESSES)]
    assert settings.secret_key is not None
    keys = KeyRing(settings.secret_key.get_secret_value())
    revocations = [
        RedisRevocations(url, clock, AskAuth(directory, keys, clock, "trial"))
        for url, directory in zip(redis_urls, directories, strict=True)
    ]
    async with AsyncExitStack() as stack:
        auths = [
            await stack.enter_async_context(started(settings, clock, revocations[number], directories[number]))
            for number in range(AUTHS)
        ]
        for number in range(AUTHS, PROCESSES):
            directories[number].put("auth", auths[number % AUTHS].url)
            database = auths[0].ports.database
            ports = Ports(
                settings=settings,
                database=database,
                bus=EmbeddedBus(database, settings),
                limits=InProcessLimits({}),
                revocations=revocations[number],
                directory=directories[number],
                keys=keys,
                clock=clock,
            )
            await stack.enter_async_context(Host([_trial()], ports, handle_signals=False))
        urls = [directory.url("trial") for directory in directories[AUTHS:]]
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Installation(auths, urls, http, revocations)


def _trial() -> Service:
    answers: dict[int, type[BaseModel] | None] = {200: Seen}
    return Service("trial", [Route("GET", "/api/seen", _seen, "Be let in", "t", Permission.SELF, answers=answers)])


async def _seen(_: Call) -> Answer:
    return Answer(Seen(seen=True))
