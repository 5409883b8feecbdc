"""An executor is killed: who follows a log reads what was stored and is told of the gap, and its lanes come free in
time."""

import asyncio
import os
import random
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from dataaggregator.client import Client
from dataaggregator.settings import Settings
from services.executor.reaper import GAP
from tests.faults.bounds import bound_seconds
from tests.faults.cluster import Cluster
from tests.faults.follower import Follower
from tests.faults.full import EXECUTOR, FullPlatform, answered, make_replication
from tests.faults.invariants import Connection, Loaded
from tests.faults.rows import Warehouse
from tests.integration.bus.rig import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

STREAMS = 120
ENDS_WITHIN_SECONDS = 120.0
LINES = "SELECT line, attempt, message FROM executor.logs WHERE run_id = $1::uuid ORDER BY line"
ROWS = 40
QUERY = f"SELECT i::bigint AS id FROM generate_series(1, {ROWS}) i, LATERAL (SELECT pg_sleep(0.1 + i * 0)) s ORDER BY i"

Json = dict[str, Any]


@pytest.mark.tries(1, 5)
async def test_who_follows_a_log_reads_all_that_a_dead_executor_stored_is_told_of_the_gap_and_reads_on(
    full: FullPlatform, chance: random.Random
) -> None:
    name, over, wanted = f"log-{secrets.token_hex(4)}", asyncio.Event(), chance.randint(1, STREAMS // 2)
    async with full.client() as client, full.connection() as connection:
        copied = await make_replication(client, name, full.cluster.folder / name, STREAMS)
        run = await client.start_run(name)
        headers = {"Authorization": f"Bearer {client.tokens[0]}"}
        reader = Follower([full.cluster.url], f"/api/runs/{run['id']}/logs", headers, chance)
        following = asyncio.create_task(reader.follow(over))

        async def enough() -> bool:
            return len(await connection.fetch(LINES, run["id"])) >= wanted

        await eventually(enough, ENDS_WITHIN_SECONDS)
        await asyncio.to_thread(full.cluster.kill, EXECUTOR)
        stored = await connection.fetch(LINES, run["id"])
        await asyncio.to_thread(full.cluster.start, EXECUTOR)
        async with asyncio.timeout(ENDS_WITHIN_SECONDS):
            await following
        lines = await connection.fetch(LINES, run["id"])
    *told, (_, kind, end) = reader.heard
    assert (kind, end["status"]) == ("end", "succeeded")
    assert [(one["line"], one["message"]) for _, _, one in told] == [(line["line"], line["message"]) for line in lines]
    gap = len(stored)
    assert lines[:gap] == stored
    assert [number for number, line in enumerate(lines) if line["message"] == GAP] == [gap]
    assert [line["attempt"] for line in lines] == [1] * (gap + 1) + [2] * (len(lines) - gap - 1)
    await full.check(copied=copied)


@pytest.fixture(scope="module")
def second(full: FullPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Another executor of the same platform."""
    known = full.cluster.environment.items()
    own = ("EXECUTOR_PORT", "EXECUTOR_URL", "DATAAGGREGATOR_HOME")
    settings = {name: value for name, value in known if name not in own}
    made = Cluster(tmp_path_factory.mktemp("second"), [EXECUTOR], settings)
    try:
        made.start()
        yield made
    finally:
        codes = made.stop()
    assert set(codes) == {0}, made.printed()


@dataclass
class Seen:
    """How many runs were at work with the connector, and how many of its queries, from moment to moment."""

    runs: list[int] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)


AT_WORK = "SELECT count(*) FROM executor.runs WHERE status = 'running' AND $1::uuid = ANY(needs)"
HOLDERS = "SELECT (owner->>'pid')::int AS pid FROM executor.runs WHERE status = 'running' AND $1::uuid = ANY(needs)"
QUERIES = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND state = 'active' AND query LIKE '%pg_sleep%'"""


@asynccontextmanager
async def watching(full: FullPlatform, warehouse: Warehouse, connector: str) -> AsyncIterator[Seen]:
    """All the time, over connections of its own."""
    seen, over = Seen(), asyncio.Event()
    source = await asyncpg.connect(warehouse.url)

    async def watch(connection: Connection) -> None:
        while not over.is_set():
            seen.runs.append(await connection.fetchval(AT_WORK, connector))
            seen.queries.append(await source.fetchval(QUERIES))
            await asyncio.sleep(0.02)

    async with full.connection() as connection:
        task = asyncio.create_task(watch(connection))
        try:
            yield seen
        finally:
            over.set()
            await task
            await source.close()


async def ask_for_runs(client: Client, warehouse: Warehouse, limit: int) -> tuple[str, list[Loaded]]:
    """More than the connector bears, of a pipeline each; the connector's id, and what they are to load."""
    name = f"c{secrets.token_hex(4)}"
    config = {"url": warehouse.url}
    body = {"name": name, "type": "postgres", "config": config, "concurrency": limit}
    connector = await client.post("/api/connectors", body)
    await warehouse.connection.execute(f"CREATE TABLE oracle AS SELECT generate_series(1, {ROWS})::bigint AS id")
    loaded = []
    for number in range(limit + 2):
        table = f"public.{name}_{number}"
        destination = {"connector": name, "stream": table, "write": "append"}
        sources = {"rows": {"connector": name, "query": QUERY}}
        pipeline = {"name": f"{name}-{number}", "sources": sources, "destinations": [destination]}
        await client.post("/api/pipelines", pipeline)
        loaded.append(Loaded(table, "oracle", (await client.start_run(f"{name}-{number}"))["id"]))
    return connector["id"], loaded


async def kill_a_holder(
    full: FullPlatform, clusters: list[Cluster], connector: str, chance: random.Random
) -> tuple[Cluster, list[asyncpg.Record]]:
    """One of the executors that hold its lanes, on another machine as it seems; what it held.

    It stands still before it is moved and is moved before it dies: the other one would see a dead process of its own
    machine at once, and take the runs without waiting for a lease.
    """
    async with full.connection() as connection:
        pid = chance.choice(await connection.fetch(HOLDERS, connector))["pid"]
    [cluster] = [one for one in clusters if one.pid(EXECUTOR) == pid]
    os.kill(pid, signal.SIGSTOP)
    held = await full.move_away(pid)
    await asyncio.to_thread(cluster.kill, EXECUTOR)
    return cluster, held


@pytest.mark.tries(1, 20)
async def test_the_lanes_of_a_killed_executor_are_held_until_its_lease_ends_and_then_taken(
    full: FullPlatform, second: Cluster, warehouse: Warehouse, chance: random.Random
) -> None:
    limit = chance.randint(1, 2)
    async with full.client() as client, full.connection() as connection:
        connector, loaded = await ask_for_runs(client, warehouse, limit)
        async with watching(full, warehouse, connector) as seen:

            async def all_lanes_taken() -> bool:
                return bool(await connection.fetchval(AT_WORK, connector) == limit)

            await eventually(all_lanes_taken, ENDS_WITHIN_SECONDS)
            await asyncio.sleep(chance.uniform(0, 2))
            died_at = await connection.fetchval("SELECT clock_timestamp()")
            killed, held = await kill_a_holder(full, [full.cluster, second], connector, chance)
            await asyncio.to_thread(killed.start, EXECUTOR)
            for one in loaded:
                ended = await answered_end(client, one.run_id)
                assert ended["status"] == "succeeded", ended["error"]
        lost = await connection.fetch("SELECT run_id, ended_at FROM executor.attempts WHERE ended = 'lost'")
    let_go = {row["run_id"]: row["ended_at"] for row in lost}
    bound = bound_seconds("an executor", Settings.load(full.cluster.environment))
    assert held
    for row in held:
        assert let_go[row["run_id"]] >= row["lease_until"]
        assert (let_go[row["run_id"]] - died_at).total_seconds() <= bound
    assert max(seen.runs) == limit
    assert 0 < max(seen.queries) <= limit
    await full.check(warehouse=warehouse, loaded=loaded)


async def answered_end(client: Client, run_id: str | None) -> Json:
    """The run when it has ended."""
    found: Json = {"finished_at": None}
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        while found["finished_at"] is None:
            found = await answered(lambda: client.get(f"/api/runs/{run_id}"))
    return found
