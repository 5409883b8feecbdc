"""What the embedded platform holds while nothing happens, and how soon it is at work.

Memory is the sum of the proportional set sizes of all its processes, PostgreSQL, the warm run process and its sandbox
included: a page that several share counts once. The time is from `dataaggregator up` on a home that is set up to the
end of a first run of one row, asked for as soon as the platform takes calls.
"""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import asyncpg

from dataaggregator.client import Client
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.bench.costs import below, resident_bytes
from tests.e2e.platform import Platform

ROUNDS = 3
SETTLE_SECONDS = 10.0


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "data") as server:
            aside = set(below(os.getpid()))  # the server that the one row comes from and goes to
            await _prepare(server.url)
            platform = Platform(Path(folder))
            await _set_up(platform, server.url)
            firsts, idles = [], []
            for _ in range(ROUNDS):
                firsts.append(await _first_run(platform))
                platform.stop()
                platform.start()
                await asyncio.sleep(SETTLE_SECONDS)
                held = resident_bytes(os.getpid(), aside)
                idles.append(sum(held.values()) / 2**20)
                platform.stop()
    print(f"embedded platform, {ROUNDS} starts of a home that is set up")
    told = ", ".join(f"{role} {size / 2**20:.0f}" for role, size in sorted(held.items()))
    print(f"  idle memory                {statistics.median(idles):7.0f} MB (PSS; {told})")
    rounds = ", ".join(f"{seconds:.2f}" for seconds in firsts)
    print(f"  `up` → first run finished  {statistics.median(firsts):7.2f} s  (rounds: {rounds})")


async def _set_up(platform: Platform, url: str) -> None:
    platform.start()
    client = await platform.client()
    await client.post("/api/connectors", {"name": "bench", "type": "postgres", "config": {"url": url}})
    pipeline = {
        "name": "trivial",
        "sources": {"one": {"connector": "bench", "stream": "public.one"}},
        "destinations": [{"connector": "bench", "stream": "public.many", "write": "append"}],
    }
    await client.post("/api/pipelines", pipeline)
    await client.__aexit__(None, None, None)
    platform.stop()


async def _first_run(platform: Platform) -> float:
    began = time.perf_counter()
    platform.start()
    client = await platform.client()
    try:
        await _run(client)
    finally:
        await client.__aexit__(None, None, None)
    return time.perf_counter() - began


async def _run(client: Client) -> None:
    run = await client.start_run("trivial")
    async for event in client.run_events(run["id"]):
        last = event["type"]
    assert last == "run.succeeded.v1", last


async def _prepare(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE one AS SELECT 1::bigint AS id, 'a row' AS name")
    await connection.execute("CREATE TABLE many (LIKE one)")
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
