"""What an identity provider says and is not believed, and what is waited for, asked, and kept of it."""

import asyncio
import json
from typing import Any

import pytest

from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.settings import Settings
from services.auth.oidc import provider as asking
from tests.integration.auth.conftest import Api, SetClock, started
from tests.integration.auth.oidc.scripted_provider import (
    ADA,
    CALLBACK,
    Provider,
    begun,
    ended,
    login,
    refused,
    rows,
    set_to,
)
from tests.integration.auth.test_passwords import audited


async def test_a_login_is_ended_once_in_time_and_by_whoever_began_it(api: Api, provider: Provider) -> None:
    cookie, asked = await begun(api)
    provider.claims = {"nonce": asked["nonce"], **ADA}
    other, _ = await begun(api)
    for wrong in ({"state": "made up"}, {"state": ""}, {}):
        assert (await ended(api, cookie, code="c", **wrong))[1]["code"] == "oidc-login-invalid"
    assert (await ended(api, other, code="c", state=asked["state"]))[1]["code"] == "oidc-login-invalid"
    assert (await api.call("GET", f"/api/auth/oidc/callback?code=c&state={asked['state']}"))[0] == 401
    assert provider.asked("/token") == 0
    assert (await ended(api, cookie, code="c", state=asked["state"]))[0] == 200
    assert (await ended(api, cookie, code="c", state=asked["state"]))[1]["code"] == "oidc-login-invalid"
    assert provider.asked("/token") == 1
    late, asked = await begun(api)
    api.clock.forward(600)
    assert (await ended(api, late, code="c", state=asked["state"]))[1]["code"] == "oidc-login-invalid"


async def test_a_login_that_was_refused_is_spent_as_well(api: Api, provider: Provider) -> None:
    cookie, asked = await begun(api)
    provider.claims = {"nonce": "of another login", **ADA}
    assert (await ended(api, cookie, code="c", state=asked["state"]))[1]["code"] == "oidc-token-invalid"
    provider.claims = {"nonce": asked["nonce"], **ADA}
    assert (await ended(api, cookie, code="c", state=asked["state"]))[1]["code"] == "oidc-login-invalid"


async def test_the_answer_of_another_provider_is_not_taken_for_ours(api: Api, provider: Provider) -> None:
    cookie, asked = await begun(api)
    status, told = await ended(api, cookie, code="c", state=asked["state"], iss="https://evil.example")
    assert (status, told["code"], provider.asked("/token")) == (401, "oidc-refused", 0)
    cookie, asked = await begun(api)
    provider.claims = {"nonce": asked["nonce"], **ADA}
    assert (await ended(api, cookie, code="c", state=asked["state"], iss=provider.url))[0] == 200


async def test_a_provider_that_says_who_it_is_has_to_say_it(
    oidc_settings: Settings, clock: SetClock, provider: Provider
) -> None:
    says = {"authorization_response_iss_parameter_supported": True}
    provider.told["/.well-known/openid-configuration"] = lambda: provider.document(**says)
    async with started(oidc_settings, clock) as api:
        assert await refused(api, provider) == (401, "oidc-refused")


async def test_the_provider_is_shown_a_secret_and_the_verifier_and_keeps_the_code_to_itself(
    api: Api, provider: Provider
) -> None:
    cookie, asked = await begun(api)
    provider.claims = {"nonce": asked["nonce"], **ADA}
    await ended(api, cookie, code="a code", state=asked["state"])
    form = next(form for path, form in provider.taken if path == "/token")
    assert form["authorization"] == "Basic dXM6YSUyMHNlY3JldCUzQSUyMG9mJTIwb3Vycw=="
    assert (form["grant_type"], form["code"], form["redirect_uri"]) == ("authorization_code", "a code", CALLBACK)
    assert form["code_verifier"] not in (cookie, asked["state"], asked["nonce"], asked["code_challenge"])
    cookie, asked = await begun(api)
    kept = await rows(api, "SELECT * FROM auth.oidc_logins")
    assert len(kept) == 1
    assert all(secret not in kept[0] for secret in (cookie, asked["state"], asked["nonce"], asked["code_challenge"]))


async def test_a_new_key_is_fetched_and_made_up_ones_do_not_make_us_ask_all_the_time(
    api: Api, provider: Provider
) -> None:
    assert (await login(api, provider))[0] == 200
    provider.signs_with, provider.publishes = 1, (1, 0)
    api.clock.forward(6)
    assert (await login(api, provider))[0] == 200
    assert provider.asked("/keys") == 2
    provider.kid = "made up"
    for _ in range(3):
        assert await refused(api, provider) == (401, "oidc-token-invalid")
    assert provider.asked("/keys") == 2
    api.clock.forward(6)
    assert await refused(api, provider) == (401, "oidc-token-invalid")
    assert provider.asked("/keys") == 3


async def test_a_key_that_is_published_no_more_is_good_no_more(api: Api, provider: Provider) -> None:
    assert (await login(api, provider))[0] == 200
    provider.publishes = (1,)
    assert (await login(api, provider))[0] == 200
    api.clock.forward(300)
    assert await refused(api, provider) == (401, "oidc-token-invalid")


@pytest.mark.parametrize(
    ("path", "said", "answered"),
    [
        ("/.well-known/openid-configuration", 500, (503, "oidc-provider-unavailable")),
        ("/.well-known/openid-configuration", 404, (502, "oidc-provider-unusable")),
        ("/.well-known/openid-configuration", 302, (502, "oidc-provider-unusable")),
        ("/.well-known/openid-configuration", "<html>", (502, "oidc-provider-unusable")),
        ("/.well-known/openid-configuration", [], (502, "oidc-provider-unusable")),
        ("/.well-known/openid-configuration", {"issuer": "https://evil.example"}, (502, "oidc-provider-unusable")),
        ("/token", 503, (503, "oidc-provider-unavailable")),
        ("/token", 429, (503, "oidc-provider-unavailable")),
        ("/token", 307, (502, "oidc-provider-unusable")),
        ("/token", 401, (502, "oidc-provider-unusable")),
        ("/token", {}, (502, "oidc-provider-unusable")),
        ("/token", {"id_token": "x", "access_token": "x"}, (401, "oidc-token-invalid")),
        ("/keys", 500, (503, "oidc-provider-unavailable")),
        ("/keys", {"keys": "none"}, (401, "oidc-token-invalid")),
        ("/keys", {}, (401, "oidc-token-invalid")),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_provider_that_does_not_do_what_it_should_is_named_and_nobody_is_let_in(
    api: Api, provider: Provider, path: str, said: Any, answered: tuple[int, str]
) -> None:
    provider.told[path] = said
    if path == "/.well-known/openid-configuration":
        got, told, headers = await api.call("GET", "/api/auth/oidc/login")
        assert "Set-Cookie" not in headers
    else:
        got, told = await login(api, provider)
    assert (got, told["code"]) == answered, told
    assert provider.asked("/elsewhere") == 0
    if told["code"].startswith("oidc-provider"):
        assert provider.url in told["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "ftp://there/"},
        {"jwks_uri": None},
        {"userinfo_endpoint": 7},
        {"code_challenge_methods_supported": ["plain"]},
        {"id_token_signing_alg_values_supported": ["HS256"]},
    ],
    ids=str,
)
async def test_a_discovery_document_that_is_not_good_enough_is_not_used(
    api: Api, provider: Provider, wrong: dict[str, Any]
) -> None:
    provider.told["/.well-known/openid-configuration"] = lambda: provider.document(**wrong)
    status, told, _ = await api.call("GET", "/api/auth/oidc/login")
    assert (status, told["code"]) == (502, "oidc-provider-unusable")


async def test_no_more_is_read_of_an_answer_than_a_good_one_can_have(api: Api, provider: Provider) -> None:
    path, good = "/.well-known/openid-configuration", json.dumps(provider.document())
    provider.told[path] = good.ljust(256 * 1024 + 1)
    status, told, _ = await api.call("GET", "/api/auth/oidc/login")
    assert (status, told["code"], "256 KiB" in told["detail"]) == (502, "oidc-provider-unusable", True)
    provider.told[path] = good.ljust(256 * 1024)
    assert (await login(api, provider))[0] == 200


async def test_a_provider_that_is_silent_is_waited_for_a_while(
    api: Api, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SECONDS", 0.2)
    provider.hold = asyncio.Event()
    async with asyncio.timeout(10):
        status, told, headers = await api.call("GET", "/api/auth/oidc/login")
    assert (status, told["code"], provider.url in told["detail"]) == (503, "oidc-provider-unavailable", True)
    assert int(headers["Retry-After"]) >= 1
    assert (await api.login())["token_type"] == "bearer"  # passwords go on


async def test_a_private_address_that_nobody_allowed_is_not_reached(
    oidc_settings: Settings, clock: SetClock, provider: Provider
) -> None:
    async with set_to(oidc_settings, clock, egress_allow=()) as api:
        status, told, _ = await api.call("GET", "/api/auth/oidc/login")
    assert (status, told["code"], "EGRESS_ALLOW" in told["detail"]) == (502, "oidc-provider-unusable", True)
    assert provider.taken == []


async def test_without_a_provider_there_is_no_such_login(auth_settings: Settings, clock: SetClock) -> None:
    async with started(auth_settings, clock) as api:
        for path in ("/api/auth/oidc/login", "/api/auth/oidc/callback?code=c&state=s"):
            status, told, _ = await api.call("GET", path)
            assert (status, told["code"]) == (404, "oidc-not-configured")


@pytest.mark.parametrize(
    "query", ["return_to=%2Fx", "session=cookie&return_to=https%3A%2F%2Fevil.example%2F", "colour=red"]
)
async def test_a_wish_that_cannot_be_granted_is_named(api: Api, query: str) -> None:
    status, told, _ = await api.call("GET", f"/api/auth/oidc/login?{query}")
    assert (status, told["code"], len(told["errors"])) == (422, "query-invalid", 1)


async def test_a_login_that_was_too_weak_at_the_provider_is_refused_and_written_down(
    oidc_settings: Settings, clock: SetClock, provider: Provider
) -> None:
    async with set_to(oidc_settings, clock, oidc_strength=("amr=mfa", "acr=gold", "acr=https://mfa")) as api:
        _, asked = await begun(api)
        assert asked["acr_values"] == "gold https://mfa"
        for weak in ({}, {"amr": ["pwd"]}, {"amr": "a mfa"}, {"amr": {"mfa": 1}}, {"acr": ["gold"]}, {"acr": "mfa"}):
            assert await refused(api, provider, **weak) == (403, "oidc-login-weak"), weak
        provider.told["/userinfo"] = lambda: {"sub": ADA["sub"], "acr": "gold", **ADA}
        cookie, asked = await begun(api)
        provider.claims = {"nonce": asked["nonce"], "sub": ADA["sub"]}
        assert (await ended(api, cookie, code="c", state=asked["state"]))[0] == 403  # only what is signed counts
        assert await rows(api, "SELECT count(*) FROM auth.users WHERE email = 'ada@example.org'") == ["(0)"]
        failed = await audited(api, "login.failed", PLATFORM_WORKSPACE)
        assert failed["detail"]["reason"] == "oidc-login-weak"
        for strong in ({"amr": ["pwd", "mfa"]}, {"amr": "mfa"}, {"acr": "gold", "amr": ["pwd"]}):
            assert (await login(api, provider, **strong))[0] == 200, strong


async def test_no_strength_is_asked_for_unless_an_operator_says_so(api: Api) -> None:
    _, asked = await begun(api)
    assert "acr_values" not in asked
