"""A run asked for again under the same id, because nobody knows what became of the first call: there is one run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit, urlunsplit

import pytest

from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from tests.faults.proxy import Proxy, Side
from tests.integration.commits import commits_held
from tests.integration.control import Control, control_platform, until

START = "/api/pipelines/copy/runs"


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(urlsplit(database_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def control(settings: Settings, database_url: str, proxy: Proxy) -> AsyncIterator[Control]:
    """The platform, and its database by way of the proxy."""
    parts = urlsplit(database_url)
    url = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"))
    async with AsyncExitStack() as held:
        yield await control_platform(settings, url, held)


async def _runs(control: Control) -> list[str]:
    return [run["id"] for run in (await control.good("GET", START))["items"]]


async def test_a_commit_without_an_answer_is_asked_about_and_not_repeated(
    control: Control, warehouse: str, proxy: Proxy, database_url: str
) -> None:
    await control.pipeline()
    headers = {"Idempotency-Id": str(new_id())}
    async with commits_held(database_url, "scheduler.runs") as held:
        first = asyncio.create_task(control.call("POST", START, headers=headers))
        await until(held.waiting, "the commit to be under way")
        proxy.half_open(Side.CLIENT)  # the platform loses its connections, the server goes on with the commit
        reply = await first
        assert (reply.status, reply.json["code"]) == (503, "database-unavailable")
    again = await control.call("POST", START, headers=headers)
    assert (again.status, again.json["id"]) == (202, headers["Idempotency-Id"])
    assert await _runs(control) == [again.json["id"]]


async def test_the_same_call_many_times_at_once_starts_one_run(control: Control, warehouse: str) -> None:
    await control.pipeline()
    headers = {"Idempotency-Id": str(new_id())}
    replies = await asyncio.gather(*(control.call("POST", START, headers=headers) for _ in range(8)))
    assert {(reply.status, reply.json["id"]) for reply in replies} == {(202, headers["Idempotency-Id"])}
    assert len(await _runs(control)) == 1


async def test_a_retry_asked_for_twice_is_one_run(control: Control, warehouse: str) -> None:
    await control.pipeline()
    run = await control.good("POST", START)
    await control.start(run)
    await control.succeed(run)
    await control.run_is(run["id"], "succeeded")
    headers = {"Idempotency-Id": str(new_id())}
    replies = [await control.call("POST", f"/api/runs/{run['id']}/retry", headers=headers) for _ in range(2)]
    assert {(reply.status, reply.json["id"]) for reply in replies} == {(202, headers["Idempotency-Id"])}
    assert sorted(await _runs(control)) == sorted([run["id"], headers["Idempotency-Id"]])


async def test_without_an_id_each_call_starts_a_run(control: Control, warehouse: str) -> None:
    await control.pipeline()
    for _ in range(2):
        await control.good("POST", START)
    assert len(await _runs(control)) == 2
