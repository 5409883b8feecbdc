"""What an answer of a service looks like behind the gateway: written at once or piece by piece, it is the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from .conftest import Platform

OURS = {
    "content-security-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "referrer-policy",
    "server",
    "traceparent",
    "vary",
    "x-content-type-options",
    "x-frame-options",
    "x-request-id",
}
BODY = b'{"a": 1}'


@asynccontextmanager
async def answering(platform: Platform, head: bytes, body: bytes = BODY) -> AsyncIterator[None]:
    """In place of the scheduler, a service that gives this answer to all that comes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    platform.ports.directory.put("scheduler", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield
    finally:
        server.close()


async def called(platform: Platform, version: str = "1.1", *lines: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """A call byte by byte: status, header lines and body of the answer to it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(platform.url).port)
    told = "".join(f"{line}\r\n" for line in (f"Authorization: Bearer {platform.token}", *lines))
    writer.write(f"GET /api/pipelines HTTP/{version}\r\nHost: x\r\nX-Request-ID: mine-1\r\n{told}\r\n".encode())
    async with asyncio.timeout(20):
        status, *head = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in head)]
        body = await reader.readexactly(int(dict(headers)["content-length"]))
    writer.close()
    return int(status.split(" ")[1]), headers, body


def apart(headers: list[tuple[str, str]], *names: str) -> list[tuple[str, str]]:
    changing = {"date", "traceparent", "ratelimit-remaining", "ratelimit-reset", "connection", *names}
    return sorted(line for line in headers if line[0] not in changing)


HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nVary: Accept-Encoding\r\nServer: theirs\r\n"
    b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-Request-ID: theirs\r\nX-Frame-Options: ALLOWALL\r\n"
    b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: X-Gone\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nX-Kept: \xc3\xa4\r\n"
)


async def test_an_answer_has_the_same_head_whichever_way_it_is_written(platform: Platform) -> None:
    async with answering(platform, HEAD):
        answers = [
            await called(platform),
            await called(platform, "1.1", "Connection: close"),
            await called(platform, "1.0"),
        ]
    assert [(status, body) for status, _, body in answers] == [(200, BODY)] * 3
    at_once, closing, old = (headers for _, headers, _ in answers)
    assert apart(at_once) == apart(closing) == apart(old)
    assert {name for name, _ in at_once} == OURS | {"content-type", "content-length", "date", "set-cookie", "x-kept"}
    assert ("connection", "close") in closing


async def test_what_the_gateway_says_stands_in_place_of_what_the_service_says(platform: Platform) -> None:
    async with answering(platform, HEAD):
        _, headers, _ = await called(platform)
    told = dict(headers)
    assert [value for name, value in headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert told["vary"] == "Accept-Encoding, Origin"
    assert (told["x-request-id"], told["x-frame-options"], told["server"]) == ("mine-1", "DENY", "dataaggregator")
    assert told["x-kept"] == "ä"
    assert not told["date"].startswith("Thu, 01 Jan 1970")
    assert len({name for name, _ in headers}) == len(headers) - 1  # nothing twice but the cookies


@pytest.mark.parametrize("control", [b"\x01", b"\x0b", b"\x1b[2J", b"\x7f"])
async def test_an_answer_with_control_characters_in_its_head_is_not_handed_on(
    platform: Platform, control: bytes
) -> None:
    async with answering(platform, HEAD + b"X-Bad: a" + control + b"b\r\n"):
        status, headers, body = await called(platform)
    assert status >= 500
    assert control not in body
    assert "x-bad" not in dict(headers)


async def test_an_empty_answer_and_one_of_no_kind_come_through(platform: Platform) -> None:
    async with answering(platform, b"HTTP/1.1 202 Accepted\r\nX-Kept: 1\r\n", b""):
        status, headers, _ = await called(platform)
        assert (status, dict(headers)["x-kept"], dict(headers)["content-length"]) == (202, "1", "0")
    async with answering(platform, b"HTTP/1.1 200 Fine\r\n"):
        status, headers, body = await called(platform)
        assert (status, dict(headers)["content-type"], body) == (200, "application/octet-stream", BODY)


@pytest.mark.parametrize("path", ["/api", "/api/pipelinesx", "/api/nothing/pipelines"])
async def test_what_nobody_answers_is_unknown(platform: Platform, path: str) -> None:
    status, told, _ = await platform.call("GET", path)
    assert (status, told["code"]) == (404, "route-unknown")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/status"), ("DELETE", "/api/runs/{}/events"), ("PATCH", "/api/events")]
)
async def test_a_route_of_the_gateways_own_says_which_methods_it_has(
    platform: Platform, unknown: str, method: str, path: str
) -> None:
    status, told, headers = await platform.call(method, path.format(unknown))
    assert (status, told["code"], headers["Allow"]) == (405, "method-not-allowed", "GET, HEAD")
