"""The private Redis: opens to its password only, forgets at a restart, leaves nothing behind."""

import asyncio
import stat
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as NotConnected

from deploy.local.redis import PrivateRedis
from tests.integration.local.ends import wait_until_ended

ONCE = Retry(NoBackoff(), 0)


async def test_only_the_password_lets_one_in(redis_url: str, redis_server: PrivateRedis) -> None:
    async with Redis.from_url(redis_url) as client:
        assert await client.ping()
    async with Redis(host="127.0.0.1", port=redis_server.port, retry=ONCE) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.ping()


async def test_it_comes_back_empty_at_the_same_address(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "redis") as server:
        url = server.url
        async with Redis.from_url(url) as client:
            await client.set("kept", "1")
        server.kill()
        async with Redis.from_url(url, retry=ONCE) as client:
            with pytest.raises(NotConnected):
                await client.ping()
        server.restart()
        assert server.url == url
        async with Redis.from_url(url) as client:
            assert await client.get("kept") is None


async def test_a_paused_server_answers_nobody_and_then_goes_on(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "redis") as server:
        async with Redis.from_url(server.url) as client:
            server.pause()
            asked = asyncio.ensure_future(client.ping())
            done, _ = await asyncio.wait([asked], timeout=0.3)
            assert not done
            server.resume()
            assert await asked


async def test_two_run_beside_each_other_and_end_without_a_trace(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "one") as one, PrivateRedis(tmp_path / "two") as two:
        async with Redis.from_url(one.url) as client, Redis.from_url(two.url) as other:
            await client.set("mine", "1")
            assert await other.get("mine") is None
        pids = [server.pid for server in (one, two) if server.pid]
        assert len(pids) == 2
    wait_until_ended(*pids)


async def test_flushing_empties_every_database(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "redis") as server:
        async with Redis.from_url(server.database_url(3)) as client:
            await client.set("kept", "1")
            server.flush()
            assert await client.get("kept") is None


def test_its_folder_and_its_password_are_closed_to_others(redis_server: PrivateRedis) -> None:
    assert stat.S_IMODE(redis_server.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((redis_server.folder / "redis.conf").stat().st_mode) == 0o600
