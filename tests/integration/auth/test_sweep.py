"""What is outlived is forgotten, and nothing else: rows that can change no answer any more do not pile up."""

from collections.abc import AsyncIterator

import pytest

from dataaggregator.settings import Settings
from services.auth import app
from tests.integration.control import until

from .conftest import ADMIN, Api, SetClock, started
from .oidc.scripted_provider import begun, ended, rows, serving, set_up

LOGIN_SECONDS = 600  # of one that is under way at the provider
RESET_SECONDS = 3600
SESSION_SECONDS = 7 * 86_400


@pytest.fixture
async def api(auth_settings: Settings, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Auth with a provider, which looks for what is outlived all the time."""
    monkeypatch.setattr(app, "SWEEP_EVERY_SECONDS", 0.02)
    async with serving(clock) as provider, started(set_up(auth_settings, provider), clock) as api:
        yield api


async def becomes(api: Api, query: str, wanted: list[str]) -> None:
    async def look() -> bool:
        return await rows(api, query) == wanted

    await until(look, f"{wanted} of {query}")


async def test_a_login_that_nobody_ended_at_the_provider_is_forgotten_when_it_is_outlived(api: Api) -> None:
    logins = "SELECT count(*) FROM auth.oidc_logins"
    await begun(api)
    api.clock.forward(LOGIN_SECONDS - 1)
    cookie, asked = await begun(api)
    assert await rows(api, logins) == ["(2)"]
    api.clock.forward(1)
    await becomes(api, logins, ["(1)"])
    _, told = await ended(api, cookie, state=asked["state"], error="access_denied")
    assert told["code"] == "oidc-refused"  # the younger one was still there to be ended
    assert await rows(api, logins) == ["(0)"]


async def test_a_session_a_reset_and_an_attempt_are_forgotten_when_they_are_outlived(api: Api) -> None:
    kept = "SELECT (SELECT count(*) FROM auth.{}), (SELECT count(*) FROM auth.{}), (SELECT count(*) FROM auth.{})"
    counts = kept.format("token_families", "password_resets", "login_attempts")
    token = await api.token()
    assert (await api.call("POST", f"/api/users/{ADMIN[0]}/password-reset", token=token))[0] == 200
    assert await rows(api, counts) == ["(1,1,1)"]
    api.clock.forward(60)
    await becomes(api, counts, ["(1,1,0)"])
    api.clock.forward(RESET_SECONDS - 60)
    await becomes(api, counts, ["(1,0,0)"])
    api.clock.forward(SESSION_SECONDS - RESET_SECONDS)
    await becomes(api, counts, ["(0,0,0)"])
    assert await rows(api, "SELECT count(*) FROM auth.refresh_tokens") == ["(0)"]
