"""The time of a trivial run: asked for over the API, one row delivered, told as succeeded by the event stream.

Beside it, in the same rounds, the same row carried by hand: two new connections, one read, one durable transaction.
What lies between the two is the platform: API, outbox, bus, lease, run process, ledger, receipt, mirror.
"""

import asyncio
import statistics
import time
from dataclasses import dataclass, field

import asyncpg

from tests.bench.room import COMPOSITIONS, Room, define, room, run
from tests.bench.table import percentiles, show

ROUNDS = 3
RUNS = 40
WARM_UP = 5


@dataclass
class Measured:
    runs: list[float] = field(default_factory=list)
    by_hand: list[float] = field(default_factory=list)


async def main() -> None:
    """Measure both compositions and print."""
    rows = []
    for composition in COMPOSITIONS:
        async with room(composition) as made:
            with made.running():
                measured = await _measure(made)
            assert await made.rows() == WARM_UP + 2 * ROUNDS * RUNS, "every row is there once"
        over = statistics.median(measured.runs) - statistics.median(measured.by_hand)
        rows += [
            [f"{composition}: whole run, over the API", *percentiles(measured.runs)],
            [f"{composition}: the row carried by hand", *percentiles(measured.by_hand)],
            [f"{composition}: the platform's own", f"{over * 1000:.1f}", ""],
        ]
    show(f"trivial run, {ROUNDS * RUNS} one after the other in {ROUNDS} rounds", ("", "p50 ms", "p95 ms"), rows)


async def _measure(made: Room) -> Measured:
    measured = Measured()
    async with made.client() as client:
        await define(client, made.data, "trivial")
        for _ in range(WARM_UP):
            await run(client, "trivial")
        for _ in range(ROUNDS):
            for _ in range(RUNS):
                began = time.perf_counter()
                await run(client, "trivial")
                measured.runs.append(time.perf_counter() - began)
            measured.by_hand += [await _carry(made.data) for _ in range(RUNS)]
    return measured


async def _carry(url: str) -> float:
    began = time.perf_counter()
    source, destination = await asyncio.gather(asyncpg.connect(url), asyncpg.connect(url))
    rows = await source.fetch("SELECT id, name FROM one")
    async with destination.transaction():
        await destination.copy_records_to_table("many", records=[tuple(row) for row in rows])
    await asyncio.gather(source.close(), destination.close())
    return time.perf_counter() - began


if __name__ == "__main__":
    asyncio.run(main())
