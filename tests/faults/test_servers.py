"""The database is killed, Redis killed or emptied: the platform is back soon, and who was sent away stays away."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from dataaggregator.client import ApiError, Client
from tests.faults.cluster import EMAIL, PASSWORD
from tests.faults.full import FullPlatform, back
from tests.faults.load import copies, load, make_pipelines

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

LONGEST_FAULT_SECONDS = 5.0
ENDED_WITHIN_SECONDS = 5.0
# One route of each service that checks tokens.
GUARDED = ("/api/auth/me", "/api/pipelines", "/api/connectors", "/api/events")


@pytest.mark.tries(1, 20)
async def test_a_database_that_was_killed_is_used_again_in_half_a_minute(
    full: FullPlatform, chance: random.Random
) -> None:
    async with full.client() as client:
        pipelines = await make_pipelines(client, full.cluster.folder)
        async with load(client, pipelines, full.cluster.folder):
            await asyncio.sleep(chance.uniform(0.5, 3.0))
            full.kill_postgres()
            await asyncio.sleep(chance.uniform(0.5, LONGEST_FAULT_SECONDS))
            full.postgres.start()
            await back(client, pipelines[0])
    await full.check(copied=copies(full.cluster.folder, pipelines))


@dataclass
class Outsider:
    """Somebody with a token that was ended, who tries every door again and again."""

    token: str
    tried: int = 0
    let_in: list[str] = field(default_factory=list)

    async def try_all(self, session: aiohttp.ClientSession) -> bool:
        """Whether every door refused, or nobody answered."""
        headers, entered = {"Authorization": f"Bearer {self.token}"}, []
        for path in GUARDED:
            async with session.get(path, headers=headers) as answer:
                self.tried += 1
                assert answer.status in {401, 200, 503}, await answer.text()
                if answer.status == 200:
                    entered.append(path)
        self.let_in += entered
        return not entered


@asynccontextmanager
async def trying(url: str, outsider: Outsider) -> AsyncIterator[None]:
    """As long as the block lasts."""
    over = asyncio.Event()

    async def go_on() -> None:
        async with aiohttp.ClientSession(url) as session:
            while not over.is_set():
                await outsider.try_all(session)
                await asyncio.sleep(0.05)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        over.set()
        await task
    assert outsider.tried > 0
    assert outsider.let_in == []


async def sent_away(url: str) -> Outsider:
    """Somebody who logged out a moment ago; returns once every service knows it."""
    async with Client(url) as client:
        await client.login(EMAIL, PASSWORD)
        token, refresh = client.tokens
        assert token is not None
        await client.get("/api/pipelines")
        await client.post("/api/auth/logout", {"refresh_token": refresh})
    outsider, deadline = Outsider(token), time.monotonic() + ENDED_WITHIN_SECONDS
    async with aiohttp.ClientSession(url) as session:
        while not await outsider.try_all(session):
            assert time.monotonic() < deadline, f"still let in: {outsider.let_in[-4:]}"
    return Outsider(token)


@pytest.mark.tries(2, 20)
async def test_without_redis_who_was_sent_away_stays_away(full: FullPlatform, seed: int, chance: random.Random) -> None:
    async with full.client() as client:
        pipelines = await make_pipelines(client, full.cluster.folder)
        before = await sent_away(full.cluster.url)
        async with trying(full.cluster.url, before):
            if seed % 2:
                await asyncio.sleep(chance.uniform(0, 1.0))
                full.redis.flush()
            else:
                full.redis.kill()
                await work_goes_on(full, client, pipelines[0])
                meanwhile = await sent_away(full.cluster.url)
                await asyncio.sleep(chance.uniform(0, LONGEST_FAULT_SECONDS))
                full.redis.start()
                async with trying(full.cluster.url, meanwhile):
                    await back(client, pipelines[0])
            await back(client, pipelines[0])
            await asyncio.sleep(chance.uniform(0, 2.0))
    await full.check(copied=copies(full.cluster.folder, pipelines))


async def work_goes_on(full: FullPlatform, client: Client, pipeline: str) -> None:
    """Reads and logins are answered; a run start is put off, and never because of a fault of ours."""
    await client.get("/api/pipelines")
    async with full.client() as another:
        await another.get("/api/connectors")
    refused: ApiError | None = None
    try:
        await client.start_run(pipeline)
    except ApiError as error:
        refused = error
    assert refused is None or refused.status == 503, refused
