"""What is outlived is forgotten, and nothing else: rows that can change no answer any more do not pile up."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dataaggregator.settings import Settings
from services.auth import app
from services.auth.sessions import store
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


SPENT_SECONDS = 300
TOKENS = "SELECT count(*) FROM auth.refresh_tokens"


async def refreshed(api: Api, pair: dict[str, str], *, times: int = 1) -> list[dict[str, str]]:
    """This pair and those after it."""
    pairs = [pair]
    for _ in range(times):
        api.clock.forward(SPENT_SECONDS + 1)
        status, pair, _ = await api.call("POST", "/api/auth/refresh", {"refresh_token": pairs[-1]["refresh_token"]})
        assert status == 200, pair
        pairs.append(pair)
    return pairs


async def test_a_login_that_is_refreshed_again_and_again_keeps_two_rows_and_finds_a_theft_all_the_same(
    api: Api,
) -> None:
    pairs = await refreshed(api, await api.login(), times=12)
    assert await rows(api, TOKENS) == ["(2)"]
    other = await api.login()
    body = {"refresh_token": pairs[3]["refresh_token"]}
    status, told, _ = await api.call("POST", "/api/auth/refresh", body)
    assert (status, told["code"]) == (401, "refresh-reused")
    status, told, _ = await api.call("POST", "/api/auth/refresh", body)
    assert (status, told["code"]) == (401, "refresh-invalid")  # by then the login has ended
    assert (await api.call("POST", "/api/auth/refresh", {"refresh_token": pairs[-1]["refresh_token"]}))[0] == 401
    assert (await api.call("GET", "/api/auth/me", token=pairs[-1]["access_token"]))[0] == 401
    assert (await api.call("GET", "/api/auth/me", token=other["access_token"]))[0] == 200


async def test_a_mark_that_was_made_up_ends_nothing(api: Api) -> None:
    pairs = await refreshed(api, await api.login(), times=2)
    secret, _, mark = pairs[0]["refresh_token"].partition(".")
    for made_up in (f"{secret[:-1]}.{mark}", f"{secret}.{mark[:22]}{'A' * 21}", mark, f".{mark}"):
        status, told, _ = await api.call("POST", "/api/auth/refresh", {"refresh_token": made_up})
        assert (status, told["code"]) == (401, "refresh-invalid"), made_up
        assert (await api.call("POST", "/api/auth/logout", {"refresh_token": made_up}))[0] == 204
    assert (await api.call("POST", "/api/auth/refresh", {"refresh_token": pairs[-1]["refresh_token"]}))[0] == 200


async def test_a_log_out_by_a_token_whose_row_is_gone_ends_the_login(api: Api) -> None:
    pairs = await refreshed(api, await api.login(), times=3)
    assert (await api.call("POST", "/api/auth/logout", {"refresh_token": pairs[0]["refresh_token"]}))[0] == 204
    assert (await api.call("POST", "/api/auth/refresh", {"refresh_token": pairs[-1]["refresh_token"]}))[0] == 401


async def test_rows_of_tokens_that_were_given_before_there_were_marks_are_kept(api: Api) -> None:
    first = await api.login()
    async with api.database.platform() as tx:
        await tx.execute("UPDATE auth.token_families SET seal = NULL")
        await tx.execute("UPDATE auth.refresh_tokens SET marked = false")
    pairs = await refreshed(api, first, times=3)
    assert await rows(api, TOKENS) == ["(4)"]
    assert "." not in pairs[-1]["refresh_token"]
    status, told, _ = await api.call("POST", "/api/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert (status, told["code"]) == (401, "refresh-reused")


async def test_a_successor_that_an_older_version_gave_is_given_again_within_the_grace(api: Api) -> None:
    first = await api.login()
    async with api.database.platform() as tx:
        seal = await tx.fetchval(
            "UPDATE auth.token_families f SET seal = NULL FROM auth.token_families old RETURNING old.seal"
        )
    status, second, _ = await api.call("POST", "/api/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert status == 200
    async with api.database.platform() as tx:
        await tx.execute("UPDATE auth.token_families SET seal = $1", seal)
    status, again, _ = await api.call("POST", "/api/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert (status, again["refresh_token"]) == (200, second["refresh_token"])


async def test_what_is_outlived_is_removed_in_parts_until_none_is_left(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "REMOVED_AT_ONCE", 2)
    removed: list[bool] = []
    remove = store.remove_outlived

    async def counted(*given: Any) -> bool:
        removed.append(await remove(*given))
        monkeypatch.setattr(app, "SWEEP_EVERY_SECONDS", 3600.0)  # there is no next round
        return removed[-1]

    for _ in range(5):
        await api.login()
    api.clock.forward(SESSION_SECONDS)
    monkeypatch.setattr(store, "remove_outlived", counted)
    await becomes(api, "SELECT count(*) FROM auth.token_families", ["(0)"])
    assert removed[:2] == [True, True]
