"""Gateways are killed while they follow, forward and deliver: listeners miss nothing, and receivers get everything."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp import web

from dataaggregator.client import Client
from dataaggregator.ids import new_id
from tests.faults.cluster import Cluster
from tests.faults.follower import Follower
from tests.faults.full import FullPlatform, make_replication
from tests.serving import answering

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

GATEWAY = ("gateway",)
EVENTS, RECEIVERS, STREAMS = 200, 6, 60
# A receiver of a gateway that died is left alone for its lease.
ALL_WITHIN_SECONDS = 120.0
LONGEST_STAY_SECONDS = 1.5

Json = dict[str, Any]


@pytest.fixture(scope="module")
def replicas(full: FullPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Cluster]]:
    """Two more gateways of the same platform, which may be killed."""
    known = full.cluster.environment.items()
    settings = {name: value for name, value in known if not name.startswith("GATEWAY_")}
    made = [Cluster(tmp_path_factory.mktemp("gateway"), [GATEWAY], settings) for _ in range(2)]
    try:
        for one in made:
            one.start()
        yield made
    finally:
        codes = [code for one in made for code in one.stop()]
    assert set(codes) == {0}, [one.printed() for one in made]


async def kill_some(replicas: list[Cluster], chance: random.Random, over: asyncio.Event) -> int:
    """One after the other, each started again; how many were killed until it is over."""
    killed = 0
    while not over.is_set() or not killed:
        await asyncio.sleep(chance.uniform(0.2, 2.0))
        replica = chance.choice(replicas)
        await asyncio.to_thread(replica.kill, GATEWAY)
        await asyncio.to_thread(replica.start)
        killed += 1
    return killed


async def happen(client: Client, mark: str, count: int) -> None:
    for number in range(count):
        body = {"name": f"{mark}-{number}", "type": "files", "config": {"root": "file:///nowhere"}}
        await client.post("/api/connectors", body)


def follower(full: FullPlatform, replicas: list[Cluster], client: Client, path: str, chance: random.Random) -> Follower:
    urls = [full.cluster.url, *(one.url for one in replicas)]
    return Follower(urls, path, {"Authorization": f"Bearer {client.tokens[0]}"}, chance)


async def until(what: str, wanted: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + ALL_WITHIN_SECONDS
    while not await wanted():
        assert time.monotonic() < deadline, f"not within {ALL_WITHIN_SECONDS:.0f} s: {what}"
        await asyncio.sleep(0.1)


@pytest.mark.tries(1, 20)
async def test_a_listener_that_moves_between_gateways_that_die_hears_everything_once_and_in_order(
    full: FullPlatform, replicas: list[Cluster], chance: random.Random
) -> None:
    mark, over = f"sse-{new_id().hex}", asyncio.Event()
    async with full.client() as client:
        listener = follower(full, replicas, client, "/api/events?type=connector.created.v1", chance)
        following = asyncio.create_task(listener.follow(over))
        killing = asyncio.create_task(kill_some(replicas, chance, over))
        await happen(client, mark, EVENTS)

        async def all_heard() -> bool:
            return len([told for _, _, told in listener.heard if told["data"]["name"].startswith(mark)]) >= EVENTS

        await until("all events", all_heard)
        over.set()
        await asyncio.gather(following, killing)
    assert {kind for _, kind, _ in listener.heard} == {None}
    positions = [int(id_ or 0) for id_, _, _ in listener.heard]
    assert positions == sorted(set(positions))
    names = [told["data"]["name"] for _, _, told in listener.heard if told["data"]["name"].startswith(mark)]
    assert sorted(names) == sorted(f"{mark}-{number}" for number in range(EVENTS)), listener.moves
    await full.check()


@dataclass
class Receivers:
    """Take calls, some of them slowly; which events came how often to whom."""

    chance: random.Random
    url: str = ""
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def answer(self, request: web.Request) -> web.Response:
        event = orjson.loads(await request.read())
        assert event["id"] == request.headers["webhook-id"]
        self.calls[request.path.strip("/"), event["id"]] += 1
        await asyncio.sleep(self.chance.choice([0, 0, 0.05, 0.2]))
        return web.Response(status=self.chance.choice([204] * 19 + [503]))


@asynccontextmanager
async def receiving(chance: random.Random) -> AsyncIterator[Receivers]:
    receivers = Receivers(chance)
    async with answering(receivers.answer) as receivers.url:
        yield receivers


async def deliveries(client: Client, name: str) -> list[Json]:
    return [one async for one in client.pages(f"/api/webhooks/{name}/deliveries")]


@pytest.mark.tries(1, 20)
async def test_every_event_reaches_every_receiver_under_its_id_although_gateways_die_while_they_deliver(
    full: FullPlatform, replicas: list[Cluster], chance: random.Random
) -> None:
    mark, over = f"hook-{new_id().hex}", asyncio.Event()
    names = [f"{mark}-to-{number}" for number in range(RECEIVERS)]
    async with full.client() as client, receiving(chance) as receivers:
        for name in names:
            body = {"name": name, "url": f"{receivers.url}/{name}", "types": ["connector.created.v1"]}
            await client.post("/api/webhooks", body)
        killing = asyncio.create_task(kill_some(replicas, chance, over))
        await happen(client, mark, EVENTS // 4)

        async def all_taken() -> bool:
            found = [one for name in names for one in await deliveries(client, name)]
            return len(found) == RECEIVERS * EVENTS // 4 and all(one["status"] == "delivered" for one in found)

        over.set()
        killed = await killing
        await until("all deliveries", all_taken)
        for name in names:
            log = await deliveries(client, name)
            assert len({one["event_id"] for one in log}) == EVENTS // 4
            for one in log:
                calls = receivers.calls[name, one["event_id"]]
                assert 1 <= calls <= one["attempts"] <= calls + killed, one
                assert one["response_status"] == 204, one
            await client.delete(f"/api/webhooks/{name}")
        assert sum(receivers.calls.values()) >= RECEIVERS * EVENTS // 4
    await full.check()


@pytest.mark.tries(1, 20)
async def test_who_follows_a_log_through_gateways_that_die_reads_each_line_once_and_the_end(
    full: FullPlatform, replicas: list[Cluster], chance: random.Random
) -> None:
    mark, over = f"log-{new_id().hex}", asyncio.Event()
    async with full.client() as client:
        copied = await make_replication(client, mark, full.cluster.folder / mark, STREAMS)
        run = await client.start_run(mark)
        reader = follower(full, replicas, client, f"/api/runs/{run['id']}/logs", chance)
        killing = asyncio.create_task(kill_some(replicas, chance, over))
        async with asyncio.timeout(ALL_WITHIN_SECONDS):
            await asyncio.gather(reader.follow(over), killing)
        lines = [one["line"] async for one in client.pages(f"/api/runs/{run['id']}/logs")]
    *told, (_, kind, end) = reader.heard
    assert (kind, end["status"]) == ("end", "succeeded")
    assert len(lines) >= STREAMS
    assert [one["line"] for _, _, one in told] == lines
    await full.check(copied=copied)
