"""The key that signs tokens is replaced under a running platform, and nobody is refused for it."""

from collections.abc import AsyncIterator

import jwt
import pytest

from dataaggregator.settings import Settings
from services.auth import app
from services.auth.keys.domain import Policy
from tests.integration.control import until

from .conftest import Platform, started

POLICY = Policy()
TOKEN_SECONDS = 1800


@pytest.fixture
async def platform(platform_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    """One whose auth looks all the time whether a key is due."""
    monkeypatch.setattr(app, "KEYS_EVERY_SECONDS", 0.02)
    async with started(platform_settings) as platform:
        yield platform


async def published(platform: Platform) -> set[str]:
    _, told, _ = await platform.call("GET", "/api/auth/jwks.json", token="")
    return {key["kid"] for key in told["keys"]}


async def become(platform: Platform, count: int) -> set[str]:
    async def look() -> set[str] | None:
        found = await published(platform)
        return found if len(found) == count else None

    found: set[str] = await until(look, f"{count} keys")
    return found


async def lets_in(platform: Platform, token: str) -> int:
    """By the gateway and the service behind it."""
    return (await platform.call("GET", "/api/pipelines", token=token))[0]


def signed_by(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_a_new_key_is_published_before_it_signs_and_the_old_one_until_its_tokens_have_ended(
    platform: Platform,
) -> None:
    (old,) = await become(platform, 1)
    platform.clock.forward(POLICY.signs_seconds - POLICY.published_before_seconds)
    (new,) = await become(platform, 2) - {old}
    platform.clock.forward(POLICY.published_before_seconds - 1)
    last = await platform.login()
    assert (signed_by(last), await lets_in(platform, last)) == (old, 200)
    platform.clock.forward(1)
    first = await platform.login()
    assert (signed_by(first), await lets_in(platform, first)) == (new, 200)
    platform.clock.forward(TOKEN_SECONDS - 2)
    assert [await lets_in(platform, token) for token in (last, first)] == [200, 200]
    platform.clock.forward(2)
    assert [await lets_in(platform, token) for token in (last, first)] == [401, 401]
    assert await published(platform) == {old, new}
    platform.clock.forward(POLICY.published_after_seconds)
    assert await become(platform, 1) == {new}
    assert await lets_in(platform, await platform.login()) == 200
