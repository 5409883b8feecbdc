"""Logins by an identity provider: who is let in, as whom, and what they may."""

import asyncio
from typing import Any

from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.settings import Settings
from tests.integration.auth.conftest import ADMIN, Api, SetClock
from tests.integration.auth.oidc.scripted_provider import (
    ADA,
    Provider,
    begun,
    ended,
    login,
    refused,
    role_of,
    rows,
    set_to,
)
from tests.integration.auth.test_passwords import audited
from tests.integration.auth.test_people import me

# -- who that is here


async def test_who_comes_for_the_first_time_is_made_with_the_role_of_their_groups(api: Api, provider: Provider) -> None:
    status, pair = await login(api, provider)
    assert (status, await me(api, pair["access_token"])) == (200, 200)
    _, user, _ = await api.call("GET", "/api/users/ada@example.org", token=await api.token())
    assert (user["name"], user["role"], user["active"], user["service"]) == ("Ada", "viewer", True, False)
    created = await audited(api, "member.added")
    assert (created["actor"], created["detail"]) == (provider.url, {"from": None, "to": "viewer"})
    assert (await api.call("POST", "/api/auth/login", {"email": "ada@example.org", "password": "x"}))[0] == 401


async def test_a_subject_stays_the_same_user_whatever_becomes_of_its_email(api: Api, provider: Provider) -> None:
    await login(api, provider)
    for changed in ({"email": "ada@elsewhere.example"}, {"email": ADMIN[0]}, {"email_verified": False}):
        status, pair = await login(api, provider, **changed)
        assert status == 200
        _, told, _ = await api.call("GET", "/api/auth/me", token=pair["access_token"])
        assert told["email"] == "ada@example.org"


async def test_two_first_logins_at_once_make_one_user(api: Api, provider: Provider) -> None:
    def token() -> dict[str, Any]:
        provider.claims = {**ADA, "nonce": provider.taken[-1][1]["code"]}
        return {"id_token": provider.token(), "access_token": "t"}

    provider.told["/token"] = token
    logins = [await begun(api) for _ in range(3)]
    done = await asyncio.gather(
        *(ended(api, cookie, state=asked["state"], code=asked["nonce"]) for cookie, asked in logins)
    )
    assert [status for status, _ in done] == [200] * 3
    assert await rows(api, "SELECT count(*) FROM auth.oidc_identities") == ["(1)"]


async def test_an_email_that_is_not_verified_makes_nobody_and_joins_nobody(
    oidc_settings: Settings, clock: SetClock, provider: Provider
) -> None:
    async with set_to(oidc_settings, clock, oidc_join_by_email=True) as api:
        for verified in (False, "true", None):
            assert await refused(api, provider, email_verified=verified) == (403, "oidc-email-unverified")
            taken = await refused(api, provider, email=ADMIN[0], email_verified=verified)
            assert taken == (403, "oidc-email-unverified")
        failed = await audited(api, "login.failed", PLATFORM_WORKSPACE)
        assert failed["detail"] == {"reason": "oidc-email-unverified", "issuer": provider.url}


async def test_the_user_of_an_email_is_joined_only_where_the_operator_says_so(
    api: Api, oidc_settings: Settings, clock: SetClock, provider: Provider
) -> None:
    await api.user("ada", token=await api.token())
    assert await refused(api, provider) == (409, "oidc-email-taken")
    async with set_to(oidc_settings, clock, oidc_join_by_email=True) as other:
        assert (await login(other, provider))[0] == 200
        # Whoever is given that address at the provider later is somebody else.
        assert await refused(other, provider, sub="another") == (409, "oidc-email-taken")
    assert (await login(api, provider))[0] == 200
    assert (await api.login("ada@example.org", "ada's password"))["token_type"] == "bearer"


async def test_a_service_account_is_nobody_at_the_provider(
    oidc_settings: Settings, clock: SetClock, provider: Provider
) -> None:
    async with set_to(oidc_settings, clock, oidc_join_by_email=True) as api:
        body = {"email": "robot@example.org", "service": True}
        assert (await api.call("POST", "/api/users", body, token=await api.token()))[0] == 201
        assert await refused(api, provider, email="robot@example.org") == (409, "oidc-email-taken")


async def test_who_is_deactivated_here_is_not_let_in_whatever_the_provider_says(api: Api, provider: Provider) -> None:
    await login(api, provider)
    _, _, _ = await api.call("PATCH", "/api/users/ada@example.org", {"active": False}, token=await api.token())
    assert await refused(api, provider) == (403, "user-inactive")


# -- what they may


async def test_a_change_of_groups_counts_from_the_next_login_on_and_ends_tokens_that_say_more(
    api: Api, provider: Provider
) -> None:
    _, first = await login(api, provider, groups=["team", "leads"])
    assert await role_of(api, "ada@example.org") == "admin"
    status, second = await login(api, provider)
    assert (status, await role_of(api, "ada@example.org")) == (200, "viewer")
    assert await me(api, first["access_token"]) == 401
    assert await me(api, second["access_token"]) == 200
    api.clock.forward(1)
    _, third = await login(api, provider, groups=["leads"])
    assert await me(api, second["access_token"]) == 200  # it says less than is true
    assert await me(api, third["access_token"]) == 200


async def test_who_has_lost_every_group_is_kept_out_and_what_they_had_has_ended(api: Api, provider: Provider) -> None:
    _, pair = await login(api, provider)
    assert await refused(api, provider, groups=["others"]) == (403, "oidc-not-permitted")
    assert await me(api, pair["access_token"]) == 401
    assert await role_of(api, "ada@example.org") is None


async def test_a_role_given_here_in_a_workspace_that_no_group_is_about_stays(api: Api, provider: Provider) -> None:
    await login(api, provider)
    token = await api.token()
    assert (await api.call("POST", "/api/workspaces", {"name": "second"}, token=token))[0] == 201
    body = {"user": "ada@example.org", "role": "editor"}
    assert (await api.call("POST", "/api/workspaces/second/members", body, token=token))[0] == 201
    _, pair = await login(api, provider, groups=[])
    _, told, _ = await api.call("GET", "/api/auth/me", token=pair["access_token"])
    assert [(one["name"], one["role"]) for one in told["memberships"]] == [("second", "editor")]


async def test_the_last_administrator_is_not_made_less_by_a_group(
    oidc_settings: Settings, clock: SetClock, provider: Provider
) -> None:
    async with set_to(oidc_settings, clock, oidc_join_by_email=True) as api:
        assert await refused(api, provider, email=ADMIN[0]) == (409, "last-admin")
        assert await role_of(api, ADMIN[0]) == "admin"
        assert await rows(api, "SELECT count(*) FROM auth.oidc_identities") == ["(0)"]
        assert (await login(api, provider, email=ADMIN[0], groups=["leads"]))[0] == 200


async def test_groups_and_email_are_asked_for_where_the_token_does_not_say_them(api: Api, provider: Provider) -> None:
    missing = {name: ADA[name] for name in ("email", "email_verified", "groups")}
    provider.told["/userinfo"] = {"sub": ADA["sub"], **missing}
    cookie, asked = await begun(api)
    provider.claims = {"nonce": asked["nonce"], "sub": ADA["sub"], "email": ADMIN[0]}
    status, pair = await ended(api, cookie, state=asked["state"], code="c")
    assert (status, provider.taken[-1]) == (200, ("/userinfo", {"authorization": "Bearer an access token"}))
    _, told, _ = await api.call("GET", "/api/auth/me", token=pair["access_token"])
    assert told["email"] == ADA["email"]  # verified is the one that is said there
    provider.told["/userinfo"] = {"sub": "somebody else", **missing}
    cookie, asked = await begun(api)
    provider.claims = {"nonce": asked["nonce"], "sub": ADA["sub"]}
    status, told = await ended(api, cookie, state=asked["state"], code="c")
    assert (status, told["code"]) == (401, "oidc-token-invalid")


# -- passwords beside it


async def test_a_password_lets_in_until_the_operator_says_that_it_does_not(
    oidc_settings: Settings, clock: SetClock, provider: Provider
) -> None:
    async with set_to(oidc_settings, clock, oidc_join_by_email=True) as api:
        await api.user("ada", token=await api.token())
        assert (await login(api, provider))[0] == 200
        assert (await api.login("ada@example.org", "ada's password"))["expires_in"]
    async with set_to(oidc_settings, clock, oidc_only=True) as api:
        body = {"email": "ada@example.org", "password": "ada's password"}
        status, told, _ = await api.call("POST", "/api/auth/login", body)
        assert (status, told["code"]) == (403, "password-login-off")
        wrong = await api.call("POST", "/api/auth/login", {**body, "password": "wrong"})
        assert (wrong[0], wrong[1]["code"]) == (401, "invalid-credentials")
        assert (await login(api, provider))[0] == 200
        assert await api.token()  # who has never come by the provider has no other way in
