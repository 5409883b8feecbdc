"""The room of the benchmarks of the data plane: several roads do the same job one after the other, in each round.

`python -m tests.bench.bench_j… [--rows N] [--rounds N] [--no-peers]`. The first road is the limit; *of it* is its
median time by that of the road. CPU is that of a median round: the server's, and that of everything else on this side.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg

from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.bench import peers
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
    peer: peers.Peer | None = None


@dataclass(frozen=True)
class Contest:
    """`before` makes room for a road; `verify` raises unless all that should have arrived has, and nothing else."""

    title: str
    roads: Mapping[str, Callable[[], Awaitable[None]]]
    before: Callable[[], Awaitable[None]]
    verify: Callable[[str], Awaitable[None]]
    first: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What a road needs besides, outside its time."""
    changed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By road, what of the types and values did not arrive as it was, once it was verified."""


@dataclass(frozen=True)
class PeerJob:
    """A job of the peer; what it brought is held against `wanted`, a table."""

    asked: Mapping[str, str | int]
    wanted: str = "orders"
    first: Mapping[str, str | int] | None = None
    """A job before it, outside its time."""
    bring: Callable[[], Awaitable[None]] | None = None
    """Makes a table of what it wrote elsewhere."""


def beside_peer(made: Contest, site: Site, job: PeerJob) -> Contest:
    """With the peer's road, where there is one."""
    if (peer := site.peer) is None:
        return made
    changed: dict[str, Sequence[str]] = {}

    def ask(asked: Mapping[str, str | int]) -> Callable[[], Awaitable[None]]:
        return lambda: peer.do({"source": site.url, "destination": site.url, **asked})

    async def before() -> None:
        await made.before()
        await peers.forget(site.connection)

    async def verify(road: str) -> None:
        if road != peers.DLT:
            await made.verify(road)
            return
        if job.bring is not None:
            await job.bring()
        changed[road] = await peers.changes(site.connection, job.wanted)

    first = {} if job.first is None else {peers.DLT: ask(job.first)}
    roads = {**made.roads, peers.DLT: ask(job.asked)}
    return replace(made, roads=roads, before=before, first=first, verify=verify, changed=changed)


Contesting = Callable[[Site], AbstractAsyncContextManager[Contest]]


@dataclass(frozen=True)
class Taken:
    """What a road took in one round."""

    seconds: float
    server_seconds: float
    client_seconds: float


@dataclass(frozen=True)
class Figures:
    """What was found; the first road is the limit."""

    title: str
    rows: int
    taken: Mapping[str, Sequence[Taken]]
    changed: Mapping[str, Sequence[str]]

    def median(self, road: str) -> float:
        """Seconds."""
        return statistics.median(one.seconds for one in self.taken[road])

    def of_limit(self, road: str) -> float:
        return self.median(next(iter(self.taken))) / self.median(road)

    def spread(self, road: str) -> str:
        return spread([one.seconds for one in self.taken[road]], 2)


async def hold(contesting: Contesting, site: Site, rounds: int) -> Figures:
    """Every road in every round, each verified."""
    async with contesting(site) as contest:
        taken: dict[str, list[Taken]] = {name: [] for name in contest.roads}
        for _ in range(rounds):
            for name, road in contest.roads.items():
                await contest.before()
                if name in contest.first:
                    await contest.first[name]()
                await site.connection.execute("CHECKPOINT")
                taken[name].append(await _take(road))
                await contest.verify(name)
        return Figures(contest.title, site.rows, taken, dict(contest.changed))


async def _take(road: Callable[[], Awaitable[None]]) -> Taken:
    before, begun = _costs(), time.perf_counter()
    await road()
    seconds, after = time.perf_counter() - begun, _costs()
    return Taken(seconds, after[0] - before[0], after[1] - before[1])


def _costs() -> tuple[float, float]:
    """CPU seconds so far of the server, and of all else: this process, those below it, and those that have ended."""
    below = cpu_seconds(os.getpid())
    return below.pop("postgres", 0.0), sum(below.values()) + sum(os.times()[:4])


def tell(found: Figures) -> None:
    """As a table, and below it what a road changed."""
    table = []
    for name, rounds in found.taken.items():
        costs = [
            f"{statistics.median(seconds):.1f}"
            for seconds in ([one.server_seconds for one in rounds], [one.client_seconds for one in rounds])
        ]
        median = found.median(name)
        figures = [f"{median:.2f}", f"{found.rows / median:,.0f}", f"{found.of_limit(name):.2f}"]
        table.append([name, *figures, *costs, found.spread(name)])
    show(found.title, ("", "median s", "rows/s", "of it", "server CPU s", "client CPU s", "rounds"), table)
    for name, changes in found.changed.items():
        print(f"  {name} changed: {'; '.join(changes)}" if changes else f"  {name} changed nothing")


async def held_alone(contesting: Contesting, rows: int, rounds: int, *, with_peers: bool = True) -> Figures:
    """On a server, with run processes and with peers of its own."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o711)  # the server's user has to reach its folder
        with EmbeddedPostgres(folder / "postgres") as server:
            async with AsyncExitStack() as closing:
                pool = ProcessPool(PoolSettings(folder=folder / "processes"))
                connection = await asyncpg.connect(server.url)
                closing.push_async_callback(connection.close)
                await pool.open()
                closing.push_async_callback(pool.close)
                peer = None
                if with_peers and peers.installed():
                    peer = await closing.enter_async_context(peers.Peer.started(folder / "peer"))
                return await hold(contesting, Site(server.url, connection, pool, folder, rows, peer), rounds)


def main(name: str, about: str | None, contesting: Contesting, rows: int = 2_000_000) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(prog=f"tests.bench.{name}", description=about)
    parser.add_argument("--rows", type=int, default=rows)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--no-peers", action="store_true", help="only ours and the limit: peers take many times as long"
    )
    given = parser.parse_args()
    tell(asyncio.run(held_alone(contesting, given.rows, given.rounds, with_peers=not given.no_peers)))
