"""The room of the benchmarks of the data plane: several roads do the same job one after the other, in each round.

`python -m tests.bench.bench_j… [--rows N] [--rounds N]`. The first road is the limit; *of it* is its median time by
that of the road. CPU is that of a median round: the server's, and that of everything else on this side.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.bench.costs import cpu_seconds
from tests.bench.table import show, spread


@dataclass(frozen=True)
class Site:
    """A durable server with a connection to it, run processes, and a folder that runs may reach."""

    url: str
    connection: asyncpg.Connection
    pool: ProcessPool
    folder: Path
    rows: int


@dataclass(frozen=True)
class Contest:
    """`before` makes room for a road; `verify` raises unless all that should have arrived has, and nothing else."""

    title: str
    roads: Mapping[str, Callable[[], Awaitable[None]]]
    before: Callable[[], Awaitable[None]]
    verify: Callable[[str], Awaitable[None]]


Contesting = Callable[[Site], AbstractAsyncContextManager[Contest]]


@dataclass(frozen=True)
class Taken:
    """What a road took in one round."""

    seconds: float
    server_seconds: float
    client_seconds: float


async def hold(contesting: Contesting, site: Site, rounds: int) -> None:
    """Every road in every round, each verified, then the table."""
    async with contesting(site) as contest:
        taken: dict[str, list[Taken]] = {name: [] for name in contest.roads}
        for _ in range(rounds):
            for name, road in contest.roads.items():
                await contest.before()
                await site.connection.execute("CHECKPOINT")
                taken[name].append(await _take(road))
                await contest.verify(name)
    _tell(contest.title, taken, site.rows)


async def _take(road: Callable[[], Awaitable[None]]) -> Taken:
    before, begun = _costs(), time.perf_counter()
    await road()
    seconds, after = time.perf_counter() - begun, _costs()
    return Taken(seconds, after[0] - before[0], after[1] - before[1])


def _costs() -> tuple[float, float]:
    """CPU seconds so far of the server, and of all else: this process, those below it, and those that have ended."""
    below = cpu_seconds(os.getpid())
    return below.pop("postgres", 0.0), sum(below.values()) + sum(os.times()[:4])


def _tell(title: str, taken: Mapping[str, list[Taken]], rows: int) -> None:
    medians = {name: statistics.median(one.seconds for one in rounds) for name, rounds in taken.items()}
    limit = next(iter(medians.values()))
    table = []
    for name, rounds in taken.items():
        costs = [
            f"{statistics.median(found):.1f}"
            for found in ([one.server_seconds for one in rounds], [one.client_seconds for one in rounds])
        ]
        figures = [f"{medians[name]:.2f}", f"{rows / medians[name]:,.0f}", f"{limit / medians[name]:.2f}"]
        table.append([name, *figures, *costs, spread([one.seconds for one in rounds], 2)])
    show(title, ("", "median s", "rows/s", "of it", "server CPU s", "client CPU s", "rounds"), table)


async def _alone(contesting: Contesting, url: str, folder: Path, rows: int, rounds: int) -> None:
    pool = ProcessPool(PoolSettings(folder=folder / "processes"))
    connection = await asyncpg.connect(url)
    await pool.open()
    try:
        await hold(contesting, Site(url, connection, pool, folder, rows), rounds)
    finally:
        await pool.close()
        await connection.close()


def main(name: str, about: str | None, contesting: Contesting, rows: int = 2_000_000) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(prog=f"tests.bench.{name}", description=about)
    parser.add_argument("--rows", type=int, default=rows)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o711)  # the server's user has to reach its folder
        with EmbeddedPostgres(folder / "postgres") as server:
            asyncio.run(_alone(contesting, server.url, folder, given.rows, given.rounds))
