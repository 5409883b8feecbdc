"""Sessions of browsers at the gateway: a cookie that no script reads, and calls that nobody can forge."""

from http.cookies import SimpleCookie
from typing import Any

import pytest

from dataaggregator.settings import Settings

from .conftest import ADMIN, Platform, started

CONSOLE = "http://console.example"


class Browser:
    """A page that is logged in: its cookie goes with every call, its token only where it says so."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.cookie = ""
        self.token = ""

    async def login(self, email: str = ADMIN[0], password: str = ADMIN[1], host: str | None = None) -> Any:
        body = {"email": email, "password": password}
        given = {} if host is None else {"Host": host}
        answer = await self._platform.call("POST", "/api/auth/login?session=cookie", body, token="", **given)
        assert answer[0] == 200, answer[1]
        self._keep(answer)
        self.token = answer[1]["csrf_token"]
        return answer

    async def call(
        self, method: str, path: str, body: object = None, *, forged: bool = False, **headers: str
    ) -> tuple[int, Any, Any]:
        given = {"Cookie": self.cookie, **({} if forged else {"X_CSRF_Token": self.token}), **headers}
        answer = await self._platform.call(method, path, body, token="", **given)
        self._keep(answer)
        return answer

    def _keep(self, answer: tuple[int, Any, Any]) -> None:
        for morsel in SimpleCookie(answer[2].get("Set-Cookie", "")).values():
            self.cookie = f"{morsel.key}={morsel.value}"


@pytest.fixture
async def browser(platform: Platform) -> Browser:
    browser = Browser(platform)
    await browser.login()
    return browser


async def test_a_browser_is_given_a_cookie_and_no_token_that_a_script_could_keep(platform: Platform) -> None:
    browser = Browser(platform)
    status, told, headers = await browser.login()
    assert (status, set(told), told["expires_in"]) == (200, {"csrf_token", "expires_in"}, 7 * 24 * 3600)
    assert "HttpOnly; SameSite=Lax" in headers["Set-Cookie"]
    assert (headers["Cache-Control"], browser.cookie.partition("=")[0]) == ("no-store", "dataaggregator")
    assert browser.cookie.partition("=")[2] not in str(told)
    assert (await browser.call("GET", "/api/pipelines"))[0] == 200
    _, me, _ = await browser.call("GET", "/api/auth/me")
    assert (me["email"], me["csrf_token"]) == (ADMIN[0], browser.token)


async def test_where_the_call_leaves_the_machine_the_cookie_needs_tls(platform: Platform) -> None:
    browser = Browser(platform)
    _, _, headers = await browser.login(host="data.example.org")
    assert headers["Set-Cookie"].startswith("__Host-dataaggregator=")
    assert headers["Set-Cookie"].endswith("; Secure")
    assert (await browser.call("GET", "/api/pipelines", Host="data.example.org"))[0] == 200
    plain = browser.cookie.removeprefix("__Host-")
    status, _, _ = await platform.call("GET", "/api/pipelines", token="", Cookie=plain, Host="data.example.org")
    assert status == 401  # anybody on the way, or a neighbouring host, could have set that one


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/pipelines/p/runs", {}),
        ("POST", "/api/workspaces", {"name": "w"}),
        ("PATCH", "/api/users/admin@example.org", {"name": "x"}),
        ("DELETE", "/api/users/admin@example.org", None),
        ("POST", "/api/auth/logout", None),
        ("POST", "/api/auth/refresh", None),
        ("POST", "/api/webhooks", {"name": "w", "url": "https://example.org/", "types": ["run.*"]}),
    ],
)
async def test_a_change_without_the_token_is_refused_and_changes_nothing(
    browser: Browser, method: str, path: str, body: object
) -> None:
    status, told, _ = await browser.call(method, path, body, forged=True)
    assert (status, told["code"]) == (403, "csrf-token-missing")
    status, told, _ = await browser.call(method, path, body, forged=True, X_CSRF_Token="0" * 64)
    assert (status, told["code"]) == (403, "csrf-token-wrong")
    status, told, _ = await browser.call(method, path, body, Origin="http://evil.example")
    assert (status, told["code"]) == (403, "origin-refused")
    status, told, _ = await browser.call(method, path, body, forged=True, X_CSRF_Token="é")
    assert (status, told["code"]) == (403, "csrf-token-wrong")
    status, told, _ = await browser.call(method, path, body, Origin="http://[é")
    assert (status, told["code"]) == (403, "origin-refused")
    assert (await browser.call("GET", "/api/pipelines"))[0] == 200


async def test_the_token_of_another_session_is_none_of_this_one(platform: Platform, browser: Browser) -> None:
    other = Browser(platform)
    await other.login()
    status, told, _ = await browser.call("POST", "/api/pipelines/p/runs", {}, forged=True, X_CSRF_Token=other.token)
    assert (status, told["code"]) == (403, "csrf-token-wrong")


async def test_a_change_with_the_token_is_made_from_the_gateways_own_page_and_from_the_consoles(
    platform: Platform, browser: Browser
) -> None:
    for origin in (platform.url, CONSOLE):
        status, _, headers = await browser.call("POST", "/api/pipelines/p/runs", {}, Origin=origin)
        assert status == 202
    assert headers["Access-Control-Allow-Credentials"] == "true"
    _, _, headers = await browser.call("GET", "/api/pipelines", Origin="http://evil.example")
    assert "Access-Control-Allow-Credentials" not in headers


async def test_the_service_behind_never_sees_the_cookie(platform: Platform, browser: Browser) -> None:
    _, told, _ = await browser.call("GET", "/api/pipelines", Session_Cookie="made up")
    secret = browser.cookie.partition("=")[2]
    assert secret not in str(told)
    assert "Session-Cookie" not in told["headers"]
    assert told["headers"]["Authorization"].startswith("Bearer ey")


async def test_a_logout_ends_the_session_and_takes_the_cookie_away(platform: Platform, browser: Browser) -> None:
    before = browser.cookie
    _, told, _ = await browser.call("GET", "/api/pipelines")
    status, _, headers = await browser.call("POST", "/api/auth/logout")
    assert (status, "Max-Age=0" in headers["Set-Cookie"]) == (204, True)
    browser.cookie = before
    status, problem, _ = await browser.call("GET", "/api/pipelines")
    assert (status, problem["code"]) == (401, "session-ended")
    token = told["headers"]["Authorization"].removeprefix("Bearer ")
    assert (await platform.call("GET", "/api/pipelines", token=token))[0] == 401
    assert (await browser.call("POST", "/api/auth/logout"))[0] == 204
    browser.cookie = before
    status, problem, _ = await browser.call("POST", "/api/auth/refresh")
    assert (status, problem["code"]) == (401, "session-ended")


async def test_a_session_lives_on_with_every_call_and_ends_without(platform: Platform, browser: Browser) -> None:
    for _ in range(3):
        platform.clock.forward(5 * 24 * 3600)
        assert (await browser.call("GET", "/api/pipelines"))[0] == 200
    status, told, headers = await browser.call("POST", "/api/auth/refresh")
    assert (status, told["csrf_token"], "Max-Age=604800" in headers["Set-Cookie"]) == (200, browser.token, True)
    platform.clock.forward(7 * 24 * 3600)
    assert (await browser.call("GET", "/api/pipelines"))[0] == 401


async def test_a_session_ends_after_thirty_days_whoever_uses_it(platform: Platform, browser: Browser) -> None:
    for _ in range(5):
        platform.clock.forward(5.9 * 24 * 3600)
        assert (await browser.call("GET", "/api/pipelines"))[0] == 200
    status, told, headers = await browser.call("POST", "/api/auth/refresh")
    assert (status, told["expires_in"], "Max-Age=43200" in headers["Set-Cookie"]) == (200, 43_200, True)
    platform.clock.forward(43_199)
    assert (await browser.call("GET", "/api/pipelines"))[0] == 200
    platform.clock.forward(1)
    status, problem, _ = await browser.call("GET", "/api/pipelines")
    assert (status, problem["code"]) == (401, "session-ended")


async def test_a_session_is_no_refresh_token_and_a_refresh_token_no_session(
    platform: Platform, browser: Browser
) -> None:
    secret = browser.cookie.partition("=")[2]
    body = {"refresh_token": secret}
    assert (await platform.call("POST", "/api/auth/refresh", body, token=""))[0] == 401
    login = {"email": ADMIN[0], "password": ADMIN[1]}
    _, pair, _ = await platform.call("POST", "/api/auth/login", login, token="")
    cookie = f"dataaggregator={pair['refresh_token']}"
    assert (await platform.call("GET", "/api/pipelines", token="", Cookie=cookie))[0] == 401


async def test_a_dead_cookie_hinders_no_login_and_a_token_goes_before_a_cookie(
    platform: Platform, browser: Browser
) -> None:
    login = {"email": ADMIN[0], "password": ADMIN[1]}
    for cookie in (browser.cookie, "dataaggregator=made-up", f"dataaggregator={'x' * 43}"):
        status, _, _ = await platform.call("POST", "/api/auth/login", login, token="", Cookie=cookie)
        assert status == 200
    status, _, _ = await platform.call("POST", "/api/pipelines/p/runs", {}, Cookie=browser.cookie)
    assert status == 202
    status, told, _ = await platform.call("POST", "/api/auth/logout", token="")
    assert (status, {one["field"] for one in told["errors"]}) == (422, {"refresh_token"})


async def test_a_deactivated_user_has_no_session_any_more(platform_settings: Settings) -> None:
    async with started(platform_settings) as platform:
        body = {"email": "ada@example.org", "password": "ada's password"}
        _, user, _ = await platform.call("POST", "/api/users", body)
        browser = Browser(platform)
        await browser.login(body["email"], body["password"])
        assert (await browser.call("GET", "/api/pipelines"))[0] == 200
        for active in (False, True):  # active again, the session has still ended
            platform.clock.forward(1)
            assert (await platform.call("PATCH", f"/api/users/{user['id']}", {"active": active}))[0] == 200
            platform.clock.forward(1)
            assert (await browser.call("GET", "/api/pipelines"))[0] == 401
