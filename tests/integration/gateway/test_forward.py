"""Forwarding: calls and answers pass through whole, streamed, and failures are told plainly."""

import asyncio
import gzip
import random
from io import BytesIO

import aiohttp
import orjson
import pytest

from dataaggregator.settings import Settings

from .conftest import ADMIN, Platform, started

# What a browser may do with an answer: nothing, and with our own page what that page needs.
POLICY = dict.fromkeys(("default-src", "base-uri", "frame-ancestors"), "'none'")
OF_A_PAGE = {
    **dict.fromkeys(("script-src", "style-src", "connect-src"), "'self'"),
    "img-src": "'self' data:",
    "form-action": "'none'",
}


async def test_a_call_reaches_its_service_with_who_asked_and_the_trace(platform: Platform) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    status, told, headers = await platform.call(
        "GET",
        "/api/pipelines?a=1&b=%20x",
        traceparent=parent,
        X_Request_ID="mine-1",
        X_Forwarded_For="6.6.6.6",
        Cookie="a=b",
        Connection="X-Secret",
        X_Secret="1",
    )
    assert status == 200
    assert told["query"] == "a=1&b= x"
    sent = {name.lower(): value for name, value in told["headers"].items()}
    assert sent["x-forwarded-for"] == "127.0.0.1"
    assert sent["x-request-id"] == headers["X-Request-ID"] == "mine-1"
    assert sent["traceparent"].split("-")[1] == headers["traceparent"].split("-")[1] == parent.split("-")[1]
    assert sent["authorization"] == f"Bearer {platform.token}"
    assert not {"cookie", "x-secret"} & set(sent)


async def test_a_large_body_streams_through_and_connection_headers_stay_behind(platform: Platform) -> None:
    body = {"text": "x" * 8_000_000}
    status, told, headers = await platform.call("POST", "/api/pipelines", body)
    assert (status, told["bytes"] > 8_000_000) == (200, True)
    assert headers["X-Kept"] == "1"
    assert "X-Gone" not in headers


@pytest.mark.parametrize("size", [2_000, 2_000_000])
async def test_a_compressed_body_reaches_its_service_whole(platform: Platform, size: int) -> None:
    packed = gzip.compress(orjson.dumps({"text": random.Random(size).randbytes(size).hex()}))
    headers = {
        "Authorization": f"Bearer {platform.token}",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
    }
    async with platform.http.post(f"{platform.url}/api/pipelines", data=BytesIO(packed), headers=headers) as answer:
        assert (answer.status, (await answer.json())["bytes"]) == (200, len(gzip.decompress(packed)))


async def test_an_answer_is_handed_on_piece_by_piece(platform: Platform) -> None:
    platform.upstream.hold = asyncio.Event()
    headers = {"Authorization": f"Bearer {platform.token}"}
    async with platform.http.get(f"{platform.url}/api/pipelines/x", headers=headers) as answer:
        for number in range(3):
            assert await answer.content.readline() == b"%d\n" % number
            platform.upstream.hold.set()
        assert await answer.content.read() == b""


async def test_an_answer_that_broke_off_is_never_passed_on_as_whole(platform: Platform) -> None:
    headers = {"Authorization": f"Bearer {platform.token}"}
    async with platform.http.get(f"{platform.url}/api/pipelines/torn", headers=headers) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_stream_without_end_does_not_hold_up_the_stop(platform_settings: Settings) -> None:
    settings = platform_settings.model_copy(update={"stop_seconds": 60.0})
    async with asyncio.timeout(20):
        async with started(settings) as platform:
            platform.upstream.hold = asyncio.Event()
            headers = {"Authorization": f"Bearer {platform.token}"}
            answer = await platform.http.get(f"{platform.url}/api/pipelines/endless", headers=headers)
            assert await answer.content.readline() == b"0\n"
        answer.close()


async def test_an_unsafe_call_that_broke_off_is_not_sent_again(platform: Platform) -> None:
    status, told, headers = await platform.call("POST", "/api/pipelines/cut/runs")
    assert (status, told["code"]) == (503, "service-unavailable")
    assert "not known" in told["detail"]
    assert int(headers["Retry-After"]) >= 1
    assert platform.upstream.started == 1


async def test_a_service_that_is_down_is_a_503_that_names_it(platform: Platform) -> None:
    platform.ports.directory.put("scheduler", "http://127.0.0.1:1")
    status, told, headers = await platform.call("GET", "/api/pipelines")
    assert (status, told["code"]) == (503, "service-unavailable")
    assert "scheduler" in told["detail"]
    assert headers["Retry-After"] == "2"
    assert told["trace_id"]


async def test_a_service_that_never_started_is_a_503_too(platform: Platform) -> None:
    status, told, _ = await platform.call("GET", "/api/connectors")
    assert (status, told["code"]) == (503, "service-unavailable")


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
async def test_without_a_good_token_nothing_is_forwarded(platform: Platform, token: str) -> None:
    platform.ports.directory.put("scheduler", "http://127.0.0.1:1")  # whoever asks it is told 503
    status, told, headers = await platform.call("POST", "/api/pipelines/x/runs", token=token or "-")
    assert status == 401
    assert told["code"] in {"token-missing", "token-invalid"}
    assert "WWW-Authenticate" in headers


async def test_a_service_checks_the_token_itself(platform: Platform) -> None:
    url = platform.ports.directory.url("scheduler")
    async with platform.http.get(f"{url}/api/pipelines", headers={"Authorization": "Bearer x"}) as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    "path", ["/api/nothing", "/api", "/api/", "/nothing", "/internal/openapi.json2", "/api/usersx"]
)
async def test_what_nobody_serves_is_a_404_problem(platform: Platform, path: str) -> None:
    status, told, headers = await platform.call("GET", path)
    assert status == 404
    assert headers["Content-Type"].startswith("application/problem+json")
    assert told["type"] == f"/api/docs/errors#{told['code']}"


async def test_internal_addresses_are_not_to_be_reached(platform: Platform) -> None:
    status, _, _ = await platform.call("GET", "/internal/openapi.json")
    assert status == 403


async def test_limits_are_told_on_every_answer_and_kept(platform_settings: Settings) -> None:
    settings = platform_settings.model_copy(update={"rate_limit_api": platform_settings.rate_limit_login})
    async with started(settings) as platform:
        seen = [await platform.call("GET", "/api/pipelines") for _ in range(12)]
        status, told, headers = seen[-1]
        assert (status, told["code"]) == (429, "rate-limited")
        assert headers["RateLimit-Remaining"] == "0"
        assert int(headers["Retry-After"]) >= 1
        assert seen[0][2]["RateLimit-Limit"] == "10"
        assert (await platform.call("GET", "/health/live"))[0] == 200


async def test_logins_are_limited_by_address_whatever_the_account_and_the_header(platform: Platform) -> None:
    statuses = []
    for number in range(12):
        body = {"email": f"{number}@example.org", "password": "x"}
        status, _, _ = await platform.call(
            "POST", "/api/auth/login", body, token="", X_Forwarded_For=f"10.0.0.{number}"
        )
        statuses.append(status)
    assert statuses.count(429) == 3  # one login was the administrator's
    status, _, _ = await platform.call("POST", "/api/auth/%6Cogin", {"email": "x", "password": "x"}, token="")
    assert status == 429


async def test_run_starts_are_limited_by_workspace(platform_settings: Settings) -> None:
    settings = platform_settings.model_copy(update={"rate_limit_run": platform_settings.rate_limit_login})
    async with started(settings) as platform:
        statuses = [(await platform.call("POST", "/api/pipelines/x/runs"))[0] for _ in range(12)]
        assert statuses == [202] * 10 + [429] * 2
        assert (await platform.call("GET", "/api/pipelines"))[0] == 200


async def test_an_allowed_page_may_call_and_another_may_not(platform: Platform) -> None:
    asked = {"Access_Control_Request_Method": "PATCH", "Access_Control_Request_Headers": "authorization"}
    status, _, headers = await platform.call(
        "OPTIONS", "/api/pipelines/x", token="", Origin="http://console.example", **asked
    )
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, "http://console.example")
    assert headers["Access-Control-Allow-Methods"] == "GET, POST, PUT, PATCH, DELETE"
    assert "Authorization" in headers["Access-Control-Allow-Headers"]
    for origin in ("http://evil.example", "null", "http://console.example.evil"):
        status, _, headers = await platform.call("OPTIONS", "/api/pipelines/x", token="", Origin=origin, **asked)
        assert not {name for name in headers if name.startswith("Access-Control")}
        assert headers["Vary"] == "Origin"


async def test_problems_and_answers_alike_carry_cors_and_security_headers(platform: Platform) -> None:
    for path in ("/api/pipelines", "/api/nothing", "/api/auth/jwks.json", "/api/docs", "/api/events?type=nonsense"):
        _, _, headers = await platform.call("GET", path, Origin="http://console.example")
        assert headers["Access-Control-Allow-Origin"] == "http://console.example", path
        assert "ETag" in headers["Access-Control-Expose-Headers"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert (headers["X-Frame-Options"], headers["Referrer-Policy"]) == ("DENY", "no-referrer")
        told = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert told == (POLICY | OF_A_PAGE if path == "/api/docs" else POLICY), path
        assert "Origin" in headers["Vary"]


async def test_a_browser_that_came_over_tls_is_told_to_come_by_no_other_way(platform_settings: Settings) -> None:
    proxied = platform_settings.model_copy(update={"trusted_proxies": ("127.0.0.1/32",)})
    async with started(proxied) as platform:
        for path in ("/api/pipelines", "/api/nothing", "/api/docs"):
            _, _, headers = await platform.call("GET", path, X_Forwarded_Proto="https")
            assert headers["Strict-Transport-Security"] == "max-age=31536000", path
        _, told, _ = await platform.call("GET", "/api/pipelines", X_Forwarded_Proto="https")
        assert {name.lower(): value for name, value in told["headers"].items()}["x-forwarded-proto"] == "https"
        for plain in ("http", "https, http", "gopher", ""):
            _, _, headers = await platform.call("GET", "/api/pipelines", X_Forwarded_Proto=plain)
            assert "Strict-Transport-Security" not in headers, plain


async def test_hosts_below_are_spoken_of_only_where_an_operator_says_so(platform_settings: Settings) -> None:
    changed = {"trusted_proxies": ("127.0.0.1/32",), "hsts_subdomains": True}
    async with started(platform_settings.model_copy(update=changed)) as platform:
        _, _, headers = await platform.call("GET", "/api/docs", X_Forwarded_Proto="https")
        assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
        _, _, headers = await platform.call("GET", "/api/docs")
        assert "Strict-Transport-Security" not in headers


async def test_who_is_no_trusted_proxy_cannot_say_that_it_was_tls(platform: Platform) -> None:
    _, told, headers = await platform.call("GET", "/api/pipelines", X_Forwarded_Proto="https")
    assert "Strict-Transport-Security" not in headers
    assert {name.lower(): value for name, value in told["headers"].items()}["x-forwarded-proto"] == "http"


async def test_a_token_is_neither_stored_nor_compressed(platform: Platform) -> None:
    """The answer to a login, and to whatever else shows a secret; others of that size are."""
    for path, body in (
        ("/api/auth/login", {"email": ADMIN[0], "password": ADMIN[1]}),
        ("/api/webhooks", {"name": "w" * 90, "url": f"https://example.org/{'x' * 1500}", "types": ["run.*"]}),
        (f"/api/webhooks/{'w' * 90}/rotate-secret", {}),
    ):
        status, _, headers = await platform.call("POST", path, body, Accept_Encoding="br, gzip")
        assert status < 300, path
        assert (headers["Cache-Control"], headers.get("Content-Encoding")) == ("no-store", None), path
    _, _, headers = await platform.call("GET", "/api/webhooks", Accept_Encoding="br, gzip")
    assert headers["Content-Encoding"] == "br"
