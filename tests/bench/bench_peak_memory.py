"""What a run holds at most, whether it moves few rows or many: nothing may grow with their number.

`python -m tests.bench.bench_peak_memory [--rows N …] [--ways W …]`. PostgreSQL to PostgreSQL, row by row through the
sandbox, and with set-wise steps over all rows, which spill. Memory is the highest resident size (VmHWM) of the run
process and of its sandbox, added up: the libraries that both have loaded count twice. The rows at the destination are
counted.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.job import ConnectorUse, JobSettings, RunJob
from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.bench.costs import below, peak_bytes
from tests.bench.table import show

WORKSPACE = UUID(int=1)
ROWS = (200_000, 20_000_000)
EVERY_SECONDS = 0.1
ROLES = ("run process", "sandbox")
SOURCE = (
    "SELECT n AS id, n % 1000003 AS customer, (n % 977)::numeric(12,2) AS amount, 'order note ' || n AS note "
    "FROM generate_series(1::bigint, {rows}) AS n"
)
WAYS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "row by row": [{"filter": "amount >= 0"}, {"derive": {"twice": "amount * 2"}}],
    "dedupe": [{"dedupe": {"key": ["id"]}}],
    "aggregate": [{"aggregate": {"by": ["id"], "measures": {"total": "sum(amount)", "last": "max(note)"}}}],
}


def job(url: str, folder: Path, rows: int, steps: Sequence[Mapping[str, object]]) -> RunJob:
    connector, run = uuid4(), uuid4()
    use = {"connector_id": connector, "connector_name": "pg", "connector_type": "postgres"}
    definition = {
        "name": "memory",
        "sources": {"orders": use | {"query": SOURCE.format(rows=rows)}},
        "transformations": [{"name": "shaped", "inputs": ["orders"], "steps": steps}],
        "destinations": [use | {"stream": "public.target", "input": "shaped", "write": "append"}],
    }
    return RunJob(
        run_id=run,
        workspace_id=WORKSPACE,
        pipeline_id=uuid4(),
        epoch=1,
        mask_key="0f" * 32,
        definition=ResolvedPipeline.model_validate(definition),
        connectors={connector: ConnectorUse(type="postgres", config={"url": url})},
        folder=str(folder / str(run)),
        kept=str(folder / "kept"),
        settings=JobSettings(egress_private=True),
    )


async def measure(url: str, folder: Path, rows: int, steps: Sequence[Mapping[str, object]]) -> tuple[float, list[int]]:
    """Seconds, and the peak of each role in bytes. A pool of its own, so that no process has a past."""
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE IF EXISTS target")
    pool = ProcessPool(PoolSettings(warm=0, folder=folder / "processes"))
    await pool.open()
    peaks: dict[str, int] = {}
    watching = asyncio.create_task(_watch(peaks))
    begun = time.perf_counter()
    try:
        async with pool.take(WORKSPACE) as process:
            outcome = await process.run(job(url, folder, rows, steps), _quiet)
        seconds = time.perf_counter() - begun
    finally:
        watching.cancel()
        await pool.close()
    if outcome.status != "succeeded" or not outcome.ledger.balanced:
        raise RuntimeError(f"the run {outcome.status}: {outcome.error}")
    if await connection.fetchval("SELECT count(*) FROM target") != rows:
        raise RuntimeError("the target does not hold the source's rows")
    await connection.close()
    return seconds, [peaks[role] for role in ROLES]


async def _watch(peaks: dict[str, int]) -> None:
    """A sandbox ends with its run, so its peak is looked at while it works."""
    while True:
        for process in below(os.getpid()):
            if process.role in ROLES and (held := peak_bytes(process.pid)):
                peaks[process.role] = max(held, peaks.get(process.role, 0))
        await asyncio.sleep(EVERY_SECONDS)


async def _quiet(_: object) -> None:
    """Frames are taken and left."""


async def bench(url: str, folder: Path, numbers: Sequence[int], ways: Sequence[str]) -> None:
    found = []
    for way in ways:
        for rows in numbers:
            seconds, peaks = await measure(url, folder, rows, WAYS[way])
            held = [f"{peak / 1e6:.0f}" for peak in (*peaks, sum(peaks))]
            found.append([way, f"{rows:,}", *held, f"{rows / seconds:,.0f}"])
    show("the most a run holds resident", ("", "rows", *(f"{role} MB" for role in ROLES), "MB", "rows/s"), found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.bench_peak_memory", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=tuple(WAYS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o711)  # the server's user has to reach its folder
        with EmbeddedPostgres(folder / "postgres") as server:
            asyncio.run(bench(server.url, folder, given.rows, given.ways))


if __name__ == "__main__":
    main()
