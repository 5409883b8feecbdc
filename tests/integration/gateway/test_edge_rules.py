"""What the edge refuses before anybody is asked, and what it leaves out of its log."""

import asyncio
import logging
import re

import pytest
from yarl import URL

from .conftest import Platform


async def raw(platform: Platform, request: str) -> bytes:
    """All that comes back until the gateway closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(platform.url).port)
    writer.write(request.replace("\n", "\r\n").encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 5\nTransfer-Encoding: chunked",
        "Content-Length: 5\nContent-Length: 6",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: +5",
        "Transfer-Encoding : chunked",
    ],
)
async def test_a_call_whose_end_two_readers_could_see_differently_is_refused(platform: Platform, head: str) -> None:
    """What comes behind such a call would be one more to some, and its body to others."""
    smuggled = "0\n\nGET /api/status HTTP/1.1\nHost: x\nConnection: close\n\n"
    answer = await raw(platform, f"POST /api/auth/login HTTP/1.1\nHost: x\n{head}\n\n{smuggled}")
    assert len(re.findall(rb"HTTP/1\.[01] ", answer)) == 1
    assert answer.split(b" ")[1] == b"400"
    assert b'"services"' not in answer


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND"])
async def test_methods_that_nothing_here_has_are_refused(platform: Platform, method: str) -> None:
    asked = f"{method} /api/status HTTP/1.1\nHost: x\nX-Canary: canary-of-a-trace\nConnection: close\n\n"
    answer = await raw(platform, asked)
    assert answer.split(b" ")[1] in (b"400", b"404", b"405")
    assert b"canary-of-a-trace" not in answer


async def test_the_log_of_calls_has_no_query_no_token_and_no_cookie(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        path = "/api/pipelines?token=canary-of-a-query"
        assert (await platform.call("GET", path, Cookie="session=canary-of-a-cookie"))[0] == 200
        body = {"email": "nobody@example.org", "password": "canary-of-a-password"}
        assert (await platform.call("POST", "/api/auth/login", body, token=""))[0] == 401
        assert (await platform.call("GET", "/api/pipelines", token="canary-of-a-token"))[0] == 401
    told = " ".join(str(record.__dict__) for record in caplog.records)
    assert "http_call" in told
    assert "canary" not in told
    assert platform.token not in told


REFUSED = "'status': 403"


async def test_a_refused_call_is_logged_with_the_ids_of_who_made_it(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"email": "ada@example.org", "password": "a river of seven bridges", "role": "viewer"}
    _, ada, _ = await platform.call("POST", "/api/users", body)
    _, key, _ = await platform.call("POST", "/api/api-keys", {"name": "key", "scopes": ["runs:read"]})
    login = await platform.login(body["email"], body["password"])
    for token, ids in ((login, {"user_id": ada["id"]}), (key["key"], {"api_key_id": key["id"]})):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert (await platform.call("POST", "/api/pipelines/p/runs", {}, token=token))[0] == 403
            assert (await platform.call("GET", "/api/auth/me", token=token))[0] == 200
        told = [record.__dict__ for record in caplog.records if "http_call" in str(record.__dict__)]
        refused = [str(one) for one in told if REFUSED in str(one)]
        assert len(refused) == 2  # the gateway's line, and that of the service behind
        assert all(f"'{name}': '{id_}'" in one for one in refused for name, id_ in ids.items()), refused
        assert not [one for one in told if body["email"] in str(one)]
        assert not [one for one in told if REFUSED not in str(one) and "user_id" in str(one)]
