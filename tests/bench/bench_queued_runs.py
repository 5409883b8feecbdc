"""Many trivial runs queued at once, each one row delivered, durable: from the first one queued to the last one ended.

200 are asked for over the public API, sixteen calls at a time, so that what the API costs is in the figure. 2,000 are
asked for in one transaction by the scheduler's own command, as a schedule that fires would, so that it is not.
Every run must have succeeded in the scheduler's mirror, and every row must be there once.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from dataaggregator.client import Client
from dataaggregator.db import Database
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.settings import Settings
from services.scheduler.pipelines import store as pipelines
from services.scheduler.runs import commands
from services.scheduler.runs.domain import Asked
from tests.bench.costs import cpu_seconds
from tests.e2e.platform import Platform

ROUNDS = 3
CALLS_AT_ONCE = 16
OVER_API = 200
IN_BULK = 2_000
PIPELINES = 400
DEADLINE_SECONDS = 600.0
PASSED_ON = ("RUN_SLOTS", "SANDBOX")
SETTINGS = {"RATE_LIMIT_RUN": "1000000/60", "RATE_LIMIT_API": "1000000/60", "LOG_LEVEL": "warning"}


@dataclass(frozen=True)
class Target:
    """A platform to measure, in whatever composition: how to ask it, and its database.

    Its processes and its servers are below this one, where their CPU time is counted.
    """

    client: Client
    database_url: str


@dataclass(frozen=True)
class Measured:
    seconds: float
    cpu: Mapping[str, float]


async def main() -> None:
    """Measure the embedded composition and print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "data") as server:
            own = await _database(server.url)
            passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
            platform = Platform(Path(folder), {**SETTINGS, **passed_on, "DATABASE_URL": own})
            platform.start()
            client = await platform.client()
            try:
                await measure(Target(client, own), server.url, "embedded")
            finally:
                await client.__aexit__(None, None, None)
                platform.stop()


async def _database(url: str) -> str:
    """A database for the platform on the same server."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE DATABASE platform")
    await connection.close()
    return f"{url.rpartition('/')[0]}/platform"


async def measure(target: Target, url: str, composition: str) -> None:
    """`url` is where the one row lies and where it is brought to."""
    await _prepare(url)
    connector = {"name": "bench", "type": "postgres", "config": {"url": url}}
    await target.client.post("/api/connectors", connector)
    names = [f"trivial-{n}" for n in range(PIPELINES)]
    for name in names:
        await target.client.post("/api/pipelines", _definition(name))
    asked = len(await _over_api(target, names[:20]))  # warm
    await _ended(target, asked)
    print(f"queued runs, {composition}, one row each, {PIPELINES} pipelines, {os.cpu_count()} cores")
    small, large = [], []
    for _ in range(ROUNDS):
        small.append(await _timed(target, names[:OVER_API], asked, bulk=False))
        asked += OVER_API
    _tell("asked for over the API", OVER_API, small)
    for _ in range(ROUNDS):
        large.append(await _timed(target, [names[n % PIPELINES] for n in range(IN_BULK)], asked, bulk=True))
        asked += IN_BULK
    _tell("asked for in bulk", IN_BULK, large)
    await _verify(url, asked)


async def _timed(target: Target, names: list[str], before: int, *, bulk: bool) -> Measured:
    cpu, began = cpu_seconds(os.getpid()), time.perf_counter()
    await (_in_bulk if bulk else _over_api)(target, names)
    await _ended(target, before + len(names))
    seconds = time.perf_counter() - began
    return Measured(seconds, {role: spent - cpu.get(role, 0.0) for role, spent in cpu_seconds(os.getpid()).items()})


async def _over_api(target: Target, names: list[str]) -> list[str]:
    room = asyncio.Semaphore(CALLS_AT_ONCE)

    async def start(name: str) -> str:
        async with room:
            return str((await target.client.start_run(name))["id"])

    return list(await asyncio.gather(*(start(name) for name in names)))


async def _in_bulk(target: Target, names: list[str]) -> None:
    """The scheduler's command for each in one transaction; the queue of a pipeline's own runs comes after."""
    database = Database(target.database_url, Settings.model_validate({"database_url": target.database_url}))
    await database.open()
    try:
        async with database.platform() as tx:
            workspace = await tx.fetchval("SELECT workspace_id FROM scheduler.pipelines LIMIT 1")
        async with database.transaction(UUID(str(workspace))) as tx:
            for name in names:
                pipeline = await pipelines.get(tx, UUID(str(workspace)), name, lock="FOR UPDATE")
                await commands.queue(tx, pipeline, Asked("manual", {}))
    finally:
        await database.close()


async def _ended(target: Target, count: int) -> None:
    """Until so many runs have succeeded by the scheduler's mirror; one that ended otherwise ends the measurement."""
    connection = await asyncpg.connect(target.database_url)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                rows = await connection.fetch("SELECT status, count(*) FROM scheduler.runs GROUP BY status")
                found = {row["status"]: row["count"] for row in rows}
                assert not found.keys() - {"queued", "running", "succeeded"}, found
                if found.get("succeeded", 0) >= count:
                    return
                await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def _prepare(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE one AS SELECT 1::bigint AS id, 'a row' AS name")
    await connection.execute("CREATE TABLE many (LIKE one)")
    await connection.close()


async def _verify(url: str, expected: int) -> None:
    connection = await asyncpg.connect(url)
    held = await connection.fetchval("SELECT count(*) FROM many")
    await connection.close()
    assert held == expected, f"{held} rows where {expected} should be"


def _definition(name: str) -> dict[str, object]:
    return {
        "name": name,
        "sources": {"one": {"connector": "bench", "stream": "public.one"}},
        "destinations": [{"connector": "bench", "stream": "public.many", "write": "append"}],
    }


def _tell(how: str, runs: int, rounds: list[Measured]) -> None:
    rates = sorted(runs / one.seconds for one in rounds)
    spread = ", ".join(f"{rate:.0f}" for rate in rates)
    print(f"  {runs} {how:<24} {statistics.median(rates):6.1f} runs/s   (rounds: {spread})")
    roles = sorted({role for one in rounds for role in one.cpu})
    spent = {role: statistics.median(one.cpu.get(role, 0.0) for one in rounds) / runs * 1000 for role in roles}
    told = ", ".join(f"{role} {cost:.2f}" for role, cost in spent.items() if cost >= 0.01)
    print(f"    CPU a run: {sum(spent.values()):.2f} ms ({told})")


if __name__ == "__main__":
    asyncio.run(main())
