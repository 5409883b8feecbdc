"""The time of a trivial run: asked for over the API, one row delivered, told as succeeded by the event stream.

Beside it, in the same rounds, the same row carried by hand: two new connections, one read, one durable transaction.
What lies between the two is the platform: API, outbox, bus, lease, run process, ledger, receipt, mirror.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import asyncpg

from dataaggregator.client import Client
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.e2e.platform import Platform

ROUNDS = 3
RUNS = 40
WARM_UP = 5


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "data") as server:
            platform = Platform(Path(folder), {"RATE_LIMIT_RUN": "100000/60", "RATE_LIMIT_API": "100000/60"})
            platform.start()
            try:
                await _measure(platform, server.url)
            finally:
                platform.stop()


async def _measure(platform: Platform, url: str) -> None:
    await _prepare(url)
    client = await platform.client()
    try:
        await client.post("/api/connectors", {"name": "bench", "type": "postgres", "config": {"url": url}})
        await client.post(
            "/api/pipelines",
            {
                "name": "trivial",
                "sources": {"one": {"connector": "bench", "stream": "public.one"}},
                "destinations": [{"connector": "bench", "stream": "public.many", "write": "append"}],
            },
        )
        for _ in range(WARM_UP):
            await _run(client)
        runs: list[float] = []
        by_hand: list[float] = []
        for _ in range(ROUNDS):
            runs += [await _run(client) for _ in range(RUNS)]
            by_hand += [await _carry(url) for _ in range(RUNS)]
    finally:
        await client.__aexit__(None, None, None)
    await _verify(url)
    print(f"trivial run, embedded, {len(runs)} runs one after the other in {ROUNDS} rounds")
    for name, times in (("whole run, over the API", runs), ("the row carried by hand", by_hand)):
        p50, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        print(f"  {name:<26} p50 {p50 * 1000:7.1f} ms   p95 {p95 * 1000:7.1f} ms")
    over = statistics.median(runs) - statistics.median(by_hand)
    ratio = statistics.median(runs) / statistics.median(by_hand)
    print(f"  the platform's own         p50 {over * 1000:7.1f} ms   {ratio:.1f} times the hand's")


async def _prepare(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE one AS SELECT 1::bigint AS id, 'a row' AS name")
    await connection.execute("CREATE TABLE many (LIKE one)")
    await connection.close()


async def _run(client: Client) -> float:
    began = time.perf_counter()
    run = await client.start_run("trivial")
    async for event in client.run_events(run["id"]):
        last = event["type"]
    assert last == "run.succeeded.v1", last
    return time.perf_counter() - began


async def _carry(url: str) -> float:
    began = time.perf_counter()
    source, destination = await asyncio.gather(asyncpg.connect(url), asyncpg.connect(url))
    rows = await source.fetch("SELECT id, name FROM one")
    async with destination.transaction():
        await destination.copy_records_to_table("many", records=[tuple(row) for row in rows])
    await asyncio.gather(source.close(), destination.close())
    return time.perf_counter() - began


async def _verify(url: str) -> None:
    connection = await asyncpg.connect(url)
    held = await connection.fetchval("SELECT count(*) FROM many")
    await connection.close()
    expected = WARM_UP + 2 * ROUNDS * RUNS
    assert held == expected, f"{held} rows where {expected} should be"


if __name__ == "__main__":
    asyncio.run(main())
