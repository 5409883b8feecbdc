"""What the platform holds while nothing happens, and how soon it is at work.

Memory is the sum of the proportional set sizes of all its processes and servers: a page that several share counts
once. It is looked at when the run process of the last run, which is kept for the next one, has been given up. The time
is from the start on a home that is set up (embedded: `dataaggregator up`; full: the servers, then every service) to the
end of a first run of one row, asked for as soon as the platform takes calls.
"""

import asyncio
import os
import statistics
import time

from tests.bench.costs import below, resident_bytes
from tests.bench.room import COMPOSITIONS, Room, define, room, run
from tests.bench.table import show, spread

ROUNDS = 3
# The run process that is started ahead for the next workspace, and the template of all.
AT_REST = 2
GIVEN_UP_WITHIN_SECONDS = 120.0
SETTLE_SECONDS = 5.0


async def main() -> None:
    """Measure both compositions and print."""
    starts, memory = [], []
    for composition in COMPOSITIONS:
        async with room(composition) as made:
            aside = {process.pid for process in below(os.getpid())}  # the server that the one row comes from
            with made.running():
                async with made.client() as client:
                    await define(client, made.data, "trivial")
            firsts = [await _first_run(made) for _ in range(ROUNDS - 1)]
            firsts.append(await _first_run(made, stay=True))
            try:
                working = resident_bytes(os.getpid(), aside)
                await _at_rest()
                idle = resident_bytes(os.getpid(), aside)
            finally:
                made.stop()
        starts.append([composition, f"{statistics.median(firsts):.2f}", spread(firsts, 2)])
        memory += [[composition, _mb(sum(idle.values())), _mb(sum(working.values()))]]
        memory += [[f"  {role}", _mb(held), _mb(working.get(role, 0))] for role, held in sorted(idle.items())]
    show("start on a home that is set up → first run finished", ("", "median s", "rounds"), starts)
    show("memory held (PSS)", ("", "idle MB", "after a run MB"), memory)


async def _first_run(made: Room, *, stay: bool = False) -> float:
    began = time.perf_counter()
    made.start()
    async with made.client() as client:
        await run(client, "trivial")
    seconds = time.perf_counter() - began
    if not stay:
        made.stop()
    return seconds


async def _at_rest() -> None:
    """Until the run process of the last run is given up, and a moment longer."""
    async with asyncio.timeout(GIVEN_UP_WITHIN_SECONDS):
        while sum(process.role == "run process" for process in below(os.getpid())) > AT_REST:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.5)
    await asyncio.sleep(SETTLE_SECONDS)


def _mb(held: int) -> str:
    return f"{held / 2**20:.0f}"


if __name__ == "__main__":
    asyncio.run(main())
