"""Tries of an account's password are counted by all replicas of auth together, whatever happens to Redis."""

from collections.abc import AsyncIterator

import pytest

from dataaggregator.settings import Settings
from deploy.local.redis import PrivateRedis
from tests.integration.auth.conftest import ADMIN, auth_settings

from .installation import PROCESSES, Installation, open_installation

__all__ = ["auth_settings"]

TRIES = 10  # a minute, as RATE_LIMIT_LOGIN says


@pytest.fixture
async def installation(auth_settings: Settings, redis_url: str) -> AsyncIterator[Installation]:
    async with open_installation(auth_settings, [redis_url] * PROCESSES) as installation:
        yield installation


async def test_an_account_has_ten_tries_at_all_replicas_together_with_redis_gone(
    installation: Installation, redis_server: PrivateRedis
) -> None:
    wrong, right = ({"email": ADMIN[0], "password": password} for password in ("wrong", ADMIN[1]))
    try:
        redis_server.kill()
        tries = [
            (await installation.auths[number % 2].call("POST", "/api/auth/login", wrong))[0] for number in range(TRIES)
        ]
        assert tries == [401] * TRIES
        for auth in installation.auths:
            status, told, headers = await auth.call("POST", "/api/auth/login", right)
            assert (status, told["code"], headers["Retry-After"]) == (429, "rate-limited", "6")
        installation.auths[0].clock.forward(6)
        assert (await installation.auths[1].call("POST", "/api/auth/login", right))[0] == 200
    finally:
        redis_server.start()
