"""Logins by a real identity provider through the gateway: a session of a browser, bound to it, and good once."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from dataaggregator.settings import Settings
from tests.identity_provider import IdentityProvider, Visitor

from .conftest import Platform, started

ADA = {"email": "ada@example.org", "email_verified": True, "name": "Ada", "groups": ["data", "leads"]}


def with_provider(settings: Settings, provider: IdentityProvider, **more: Any) -> Settings:
    """The settings as they are, with those that the environment would say beside them."""
    said = Settings.load({**provider.settings, "OIDC_ROLES": "data=editor,leads=admin@marketing", **more})
    known = {name: getattr(said, name) for name in said.model_fields_set if not name.startswith("database")}
    return settings.model_copy(update={**known, "gateway_port": provider.gateway_port})


@pytest.fixture
async def platform(platform_settings: Settings, identity_provider: IdentityProvider) -> AsyncIterator[Platform]:
    identity_provider.know({"ada": ADA, "eve": {"email": "eve@example.org", "email_verified": True}})
    async with started(with_provider(platform_settings, identity_provider)) as platform:
        yield platform


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    async with Visitor() as visitor:
        yield visitor


async def test_a_browser_comes_back_with_a_session_and_to_the_page_it_wanted(
    platform: Platform, identity_provider: IdentityProvider, visitor: Visitor
) -> None:
    back = await visitor.comes_back(identity_provider, "ada", "?session=cookie&return_to=%2Fapi%2Fdocs%3Fa%3Db")
    status, told, headers = await visitor.get(back)
    assert (status, headers["Location"], headers["Cache-Control"]) == (303, "/api/docs?a=b", "no-store"), told
    assert "HttpOnly; SameSite=Lax" in headers["Set-Cookie"]
    _, me, _ = await visitor.get(f"{platform.url}/api/auth/me")
    assert (me["email"], [(one["name"], one["role"]) for one in me["memberships"]]) == (
        ADA["email"],
        [("default", "editor")],
    )
    assert me["csrf_token"]
    assert (await visitor.get(f"{platform.url}/api/pipelines"))[0] == 200


async def test_what_goes_to_the_provider_tells_nothing_and_differs_each_time(
    platform: Platform, visitor: Visitor
) -> None:
    said = []
    for _ in range(2):
        status, _, headers = await visitor.get(f"{platform.url}/api/auth/oidc/login")
        assert (status, headers["Cache-Control"]) == (302, "no-store")
        name, _, cookie = headers["Set-Cookie"].partition("=")
        assert (name, "Max-Age=600; HttpOnly; SameSite=Lax" in cookie) == ("dataaggregator-login", True)
        query = parse_qs(urlsplit(headers["Location"]).query)
        assert (query["response_type"], query["code_challenge_method"]) == (["code"], ["S256"])
        said += [query[part][0] for part in ("state", "nonce", "code_challenge")] + [cookie.partition(";")[0]]
    assert len(set(said)) == 8
    _, _, headers = await visitor.get(f"{platform.url}/api/auth/oidc/login", Host="data.example.org")
    assert headers["Set-Cookie"].startswith("__Host-dataaggregator-login=")
    assert headers["Set-Cookie"].endswith("; Secure")


async def test_without_a_wish_for_a_session_it_ends_with_tokens(
    platform: Platform, identity_provider: IdentityProvider, visitor: Visitor
) -> None:
    status, pair, headers = await visitor.get(await visitor.comes_back(identity_provider, "ada", ""))
    assert (status, pair["token_type"], headers["Cache-Control"]) == (200, "bearer", "no-store")
    assert (await platform.call("GET", "/api/pipelines", token=pair["access_token"]))[0] == 200


async def test_another_browser_cannot_end_it_and_the_same_one_only_once(
    platform: Platform, identity_provider: IdentityProvider, visitor: Visitor
) -> None:
    back = await visitor.comes_back(identity_provider, "ada")
    async with Visitor() as other:
        assert (await other.get(back))[1]["code"] == "oidc-login-invalid"
        await other.get(f"{platform.url}/api/auth/oidc/login")
        status, told, _ = await other.get(back)
        assert (status, told["code"]) == (401, "oidc-login-invalid")
        for shown in ("x" * 43, visitor.holds("dataaggregator-login")):  # a header is no cookie, whatever it says
            assert (await other.get(back, Login_Cookie=shown))[1]["code"] == "oidc-login-invalid"
    assert (await visitor.get(back))[0] == 200
    status, told, _ = await visitor.get(back)
    assert (status, told["code"]) == (401, "oidc-login-invalid")


async def test_a_code_of_another_login_is_refused_by_the_provider(
    platform: Platform, identity_provider: IdentityProvider, visitor: Visitor
) -> None:
    async with Visitor() as other:
        stolen = parse_qs(urlsplit(await other.comes_back(identity_provider, "ada")).query)["code"][0]
    back = urlsplit(await visitor.comes_back(identity_provider, "eve"))
    mine = parse_qs(back.query)["code"][0]
    status, told, _ = await visitor.get(back.geturl().replace(mine, stolen))
    assert (status, told["code"]) == (401, "oidc-refused")  # the verifier of this login does not fit


async def test_who_gives_up_at_the_provider_is_told_so(
    platform: Platform, identity_provider: IdentityProvider, visitor: Visitor
) -> None:
    status, told, _ = await visitor.get(await visitor.comes_back(identity_provider, ""))
    assert (status, told["code"], "access_denied" in told["detail"]) == (401, "oidc-refused", True)


async def test_who_has_no_group_with_a_role_is_not_let_in_and_not_made(
    platform: Platform, identity_provider: IdentityProvider, visitor: Visitor
) -> None:
    status, told, _ = await visitor.get(await visitor.comes_back(identity_provider, "eve"))
    assert (status, told["code"]) == (403, "oidc-not-permitted")
    assert (await platform.call("GET", "/api/users/eve@example.org"))[0] == 404


async def test_logins_that_begin_are_limited_as_those_with_a_password_are(
    platform_settings: Settings, identity_provider: IdentityProvider, visitor: Visitor
) -> None:
    settings = with_provider(platform_settings, identity_provider, RATE_LIMIT_LOGIN="3/60")
    async with started(settings) as platform:
        seen = [(await visitor.get(f"{platform.url}/api/auth/oidc/login"))[0] for _ in range(4)]
    assert seen == [302, 302, 429, 429]  # the administrator's own login counts as well
