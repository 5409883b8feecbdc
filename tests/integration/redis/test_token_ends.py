"""A log-out and a deactivation end tokens in every process within two seconds, whatever happens to Redis meanwhile."""

from collections.abc import AsyncIterator, Callable

import pytest

from dataaggregator.settings import Settings
from deploy.local.redis import PrivateRedis
from tests.integration.auth.conftest import auth_settings

from .installation import BOUND_SECONDS, OTHERS, PROCESSES, Installation, open_installation

__all__ = ["auth_settings"]


@pytest.fixture
async def installation(auth_settings: Settings, redis_url: str) -> AsyncIterator[Installation]:
    async with open_installation(auth_settings, [redis_url] * PROCESSES) as installation:
        yield installation


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
        assert await installation.statuses(ended) == [200] * OTHERS
        status, _, _ = await auth.call("PATCH", f"/api/users/{user['id']}", {"active": False}, token=admin)
        assert status == 200
        await installation.all_answer(ended, 401, BOUND_SECONDS)
        assert await installation.statuses(left["access_token"]) == [401] * OTHERS
        assert await installation.statuses(admin) == [200] * OTHERS
    finally:
        redis_server.resume()
        if redis_server.pid is None:
            redis_server.start()


async def test_what_one_replica_of_auth_revoked_the_other_tells(installation: Installation) -> None:
    """The first wrote it down and died before it could tell anybody."""
    first, second = installation.auths
    pair = await first.login()
    await installation.all_answer(pair["access_token"], 200, 10)
    await first.ports.revocations.close()
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
