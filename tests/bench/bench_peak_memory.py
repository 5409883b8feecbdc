"""What a run holds at most, whether it moves few rows or many: nothing may grow with their number.

`python -m tests.bench.bench_peak_memory [--rows N …] [--ways W …]`. PostgreSQL to PostgreSQL, row by row through the
sandbox, and with set-wise steps over all rows, which spill. *peaks added* is the highest resident size (VmHWM) of the
run process and of its sandbox, whenever each of them had it; *together* leaves out what both have of the same files,
their libraries, which is in memory once, and *of the first* is that by what the first number of rows took. *spilled*
is the most that lay in the sandbox's folder. The rows at the destination are counted.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.bench.costs import below, bytes_in, peak_bytes, shared_file_bytes
from tests.bench.jobs import job, through
from tests.bench.table import show

ROWS = (200_000, 2_000_000, 20_000_000)
EVERY_SECONDS = 0.1
ROLES = ("run process", "sandbox")
NARROW = (
    "SELECT n AS id, n % 1000003 AS customer, (n % 977)::numeric(12,2) AS amount, 'order note ' || n AS note "
    "FROM generate_series(1::bigint, {rows}) AS n"
)
TEXTS = ", ".join(f"'text {at} of an order that has many ' || n AS text_{at}" for at in range(20))
WIDE = f"SELECT n AS id, n % 977 AS amount, {TEXTS} FROM generate_series(1::bigint, {{rows}}) AS n"
CUSTOMERS = "SELECT n AS customer, 'customer ' || n AS name FROM generate_series(0::bigint, 1000002) AS n"


@dataclass(frozen=True)
class Way:
    """Steps over the flow, `{rows}` rows of it, and over what else there is; as many rows as the flow has come out."""

    steps: Sequence[Mapping[str, object]]
    flow: str = NARROW
    others: Mapping[str, str] = field(default_factory=dict)

    def sources(self, rows: int) -> Mapping[str, Mapping[str, str]]:
        queries = {"orders": self.flow.format(rows=rows), **self.others}
        return {name: {"query": query} for name, query in queries.items()}


WAYS = {
    "row by row": Way([{"filter": "amount >= 0"}, {"derive": {"twice": "amount * 2"}}]),
    "dedupe": Way([{"dedupe": {"key": ["id"]}}]),
    "aggregate": Way([{"aggregate": {"by": ["id"], "measures": {"total": "sum(amount)", "last": "max(note)"}}}]),
    "join": Way([{"join": {"with": "customers", "on": ["customer"]}}], others={"customers": CUSTOMERS}),
    "dedupe, wide": Way([{"dedupe": {"key": ["id"]}}], flow=WIDE),
    "aggregate, wide": Way([{"aggregate": {"by": ["id"], "measures": {"total": "sum(amount)"}}}], flow=WIDE),
}


@dataclass
class Held:
    """The most that was seen of everything, in bytes."""

    peaks: dict[str, int] = field(default_factory=dict)
    shared: int = 0
    spilled: int = 0

    async def watch(self, spill: Path) -> None:
        """A sandbox ends with its run, so its peak is looked at while it works."""
        while True:
            found = {process.role: process.pid for process in below(os.getpid()) if process.role in ROLES}
            for role, pid in found.items():
                self.peaks[role] = max(peak_bytes(pid) or 0, self.peaks.get(role, 0))
            if len(found) == len(ROLES):
                self.shared = shared_file_bytes(*found.values()) or self.shared
            self.spilled = max(bytes_in(spill), self.spilled)
            await asyncio.sleep(EVERY_SECONDS)


async def measure(url: str, folder: Path, rows: int, way: Way) -> tuple[float, Held]:
    """Seconds, and what was held. A pool of its own, so that no process has a past."""
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE IF EXISTS target")
    pool = ProcessPool(PoolSettings(warm=0, folder=folder / "processes"))
    await pool.open()
    held = Held()
    watching = asyncio.create_task(held.watch(folder / "processes"))
    begun = time.perf_counter()
    try:
        await through(pool, job(url, folder, way.sources(rows), way.steps))
        seconds = time.perf_counter() - begun
    finally:
        watching.cancel()
        await pool.close()
    if await connection.fetchval("SELECT count(*) FROM target") != rows:
        raise RuntimeError("the target does not hold the source's rows")
    await connection.close()
    return seconds, held


async def bench(url: str, folder: Path, numbers: Sequence[int], ways: Sequence[str]) -> None:
    found = []
    for way in ways:
        first = 0
        for rows in numbers:
            seconds, held = await measure(url, folder, rows, WAYS[way])
            added = sum(held.peaks.values())
            together = added - held.shared
            first = first or together
            sizes = [f"{size / 1e6:,.0f}" for size in (*(held.peaks[role] for role in ROLES), added, together)]
            ratio, spilled = f"{together / first:.2f}", f"{held.spilled / 1e6:,.0f}"
            found.append([way, f"{rows:,}", *sizes, ratio, spilled, f"{rows / seconds:,.0f}"])
    columns = ("", "rows", *ROLES, "peaks added", "together", "of the first", "spilled", "rows/s")
    show("the most a run holds resident, MB", columns, found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.bench_peak_memory", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=[way for way in WAYS if "wide" not in way])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o711)  # the server's user has to reach its folder
        with EmbeddedPostgres(folder / "postgres") as server:
            asyncio.run(bench(server.url, folder, given.rows, given.ways))


if __name__ == "__main__":
    main()
