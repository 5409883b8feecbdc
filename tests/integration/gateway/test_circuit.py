"""A service that leaves calls without an answer: its callers are told at once, other services go on, it comes back."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from yarl import URL

from dataaggregator.telemetry import metrics
from services.gateway import forward
from services.gateway.circuit import FAILURES

from .conftest import Platform

SILENCE_SECONDS = 0.5


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "SILENCE_SECONDS", SILENCE_SECONDS)


@pytest.fixture
def few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "POOLED", 4)


@pytest.fixture
def hung() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def circuit(platform: Platform) -> str:
    _, told, _ = await platform.call("GET", "/api/status")
    return str(next(one["circuit"] for one in told["services"] if one["name"] == "scheduler"))


def counted() -> float:
    return float(metrics.CIRCUIT_OPEN.of("scheduler")._value.get())


async def give_up(platform: Platform, address: str) -> str:
    """Calls that are not sent twice, until none is sent any more; where the service really is."""
    there = platform.ports.directory.url("scheduler")
    platform.ports.directory.put("scheduler", address)
    for _ in range(FAILURES):
        status, told, _ = await platform.call("POST", "/api/pipelines", {})
        assert (status, told["code"], "several" in told["detail"]) == (503, "service-unavailable", False)
    return there


async def test_a_service_that_hangs_is_not_asked_any_more_until_it_is_back(
    impatient: None, platform: Platform, hung: str
) -> None:
    there = await give_up(platform, hung)
    assert (await circuit(platform), counted()) == ("open", 1)
    status, told, headers = await platform.call("GET", "/api/pipelines")
    assert (status, told["code"], "several" in told["detail"]) == (503, "service-unavailable", True)
    assert int(headers["Retry-After"]) >= 1
    assert (await platform.call("GET", "/api/auth/me"))[0] == 200
    platform.ports.directory.put("scheduler", there)
    async with asyncio.timeout(20):
        while (await platform.call("GET", "/api/pipelines"))[0] != 200:  # noqa: ASYNC110 - it asks
            await asyncio.sleep(0.05)
    assert (await circuit(platform), counted()) == ("closed", 0)


async def test_answers_of_any_kind_are_no_failures(platform: Platform, unknown: str) -> None:
    for _ in range(FAILURES + 1):
        assert (await platform.call("GET", f"/api/runs/{unknown}"))[0] == 404
        assert (await platform.call("POST", "/api/pipelines/broken/runs"))[0] == 500
    assert await circuit(platform) == "closed"


async def test_callers_who_break_off_give_up_no_service(platform: Platform) -> None:
    """Bodies that are streamed, cut in the middle by those who send them."""
    head = (
        f"POST /api/pipelines HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {platform.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {forward.SMALL_BYTES * 4}\r\n\r\n"
    ).encode()

    def broken() -> float:
        return float(metrics.HTTP_REQUESTS.of("gateway", "forward:scheduler", "POST", "503")._value.get())

    port, before = URL(platform.url).port, broken()
    for _ in range(FAILURES + 1):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"x" * forward.SMALL_BYTES)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(20):
        while broken() - before <= FAILURES:  # noqa: ASYNC110 - it asks
            await asyncio.sleep(0.02)
    assert await circuit(platform) == "closed"
    assert (await platform.call("GET", "/api/pipelines"))[0] == 200


async def test_streams_of_events_take_no_connection_from_calls(few_connections: None, platform: Platform) -> None:
    platform.upstream.hold = asyncio.Event()
    headers = {"Authorization": f"Bearer {platform.token}", "Accept": "text/event-stream"}
    async with AsyncExitStack() as stack:
        for _ in range(forward.POOLED + 2):
            opened = platform.http.get(f"{platform.url}/api/pipelines/endless", headers=headers)
            answer = await stack.enter_async_context(opened)
            assert await answer.content.readline() == b"0\n"
        status, _, _ = await platform.call("GET", "/api/pipelines")
        assert status == 200
