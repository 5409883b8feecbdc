"""J1: 2,000,000 orders of 12 mixed columns, PostgreSQL to PostgreSQL, beside the plain binary COPY pipe.

`python -m tests.bench.bench_j1 [--rows N] [--rounds N]`. Each round runs the pipe, the undecoded road and the Arrow
road with a row-wise step one after the other; every run's rows and checksum are verified against the source.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg

from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.bench.jobs import job, through
from tests.bench.table import show, spread

COLUMNS = """id bigint NOT NULL, customer_id int NOT NULL, store_id smallint NOT NULL, amount numeric(12,2) NOT NULL,
discount float8, note text, city text NOT NULL, paid bool NOT NULL, ordered_on date NOT NULL,
created_at timestamptz NOT NULL, ref uuid NOT NULL, attributes jsonb"""
ROWS = """INSERT INTO orders SELECT n, n % 100003, n % 300, (n % 1000003)::numeric / 100,
CASE WHEN n % 7 = 0 THEN NULL ELSE (n % 97) / 97.0 END, CASE WHEN n % 5 = 0 THEN NULL ELSE 'order note ' || n END,
(ARRAY['Zürich', 'København', 'Łódź', '東京', 'Paris'])[1 + n % 5], n % 3 = 0, date '2024-01-01' + (n % 730)::int,
timestamptz '2024-01-01' + n * interval '1 millisecond', md5(n::text)::uuid,
CASE WHEN n % 4 = 0 THEN NULL ELSE jsonb_build_object('n', n, 'tag', 'x' || n % 10) END
FROM generate_series(1::bigint, $1::bigint) AS n"""
CHECKSUM = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric)::text FROM {} t"
PIPE = "binary COPY pipe (the limit)"


async def pipe(url: str) -> None:
    """The limit: COPY out of one connection straight into COPY of another, in one transaction."""
    reader, writer = await asyncpg.connect(url), await asyncpg.connect(url)
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=32)

    async def read() -> None:
        await reader.copy_from_table("orders", output=chunks.put, format="binary")
        await chunks.put(None)

    async def feed() -> AsyncIterator[bytes]:
        while (chunk := await chunks.get()) is not None:
            yield chunk

    async with writer.transaction():
        await asyncio.gather(read(), writer.copy_to_table("target", source=feed(), format="binary"))
    await asyncio.gather(reader.close(), writer.close())


async def measure(url: str, pool: ProcessPool, folder: Path, rounds: int) -> dict[str, list[float]]:
    orders = {"orders": {"stream": "public.orders"}}
    roads: dict[str, Callable[[], Awaitable[None]]] = {
        PIPE: lambda: pipe(url),
        "run, undecoded": lambda: through(pool, job(url, folder, orders, [])),
        "run, Arrow with a filter": lambda: through(pool, job(url, folder, orders, [{"filter": "amount >= 0"}])),
    }
    times: dict[str, list[float]] = {name: [] for name in roads}
    connection = await asyncpg.connect(url)
    expected = await connection.fetchrow(CHECKSUM.format("orders"))
    for _ in range(rounds):
        for name, road in roads.items():
            await connection.execute("DROP TABLE IF EXISTS target")
            await connection.execute(f"CREATE TABLE target ({COLUMNS})")
            await connection.execute("CHECKPOINT")
            begun = time.perf_counter()
            await road()
            times[name].append(time.perf_counter() - begun)
            if await connection.fetchrow(CHECKSUM.format("target")) != expected:
                raise RuntimeError(f"{name}: the target does not hold the source's rows")
    await connection.close()
    return times


def tell(times: dict[str, list[float]], rows: int) -> None:
    limit = statistics.median(times[PIPE])
    table = []
    for name, taken in times.items():
        median = statistics.median(taken)
        table.append([name, f"{median:.2f}", f"{rows / median:,.0f}", f"{limit / median:.2f}", spread(taken, 2)])
    columns = ("", "median s", "rows/s", "of the limit", "rounds")
    show(f"J1: {rows:,} orders of 12 columns, PostgreSQL to PostgreSQL", columns, table)


async def bench(url: str, folder: Path, rows: int, rounds: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE TABLE orders ({COLUMNS})")
    await connection.execute(ROWS, rows)
    await connection.execute("VACUUM ANALYZE orders")
    await connection.close()
    pool = ProcessPool(PoolSettings(folder=folder / "processes"))
    await pool.open()
    try:
        tell(await measure(url, pool, folder / "runs", rounds), rows)
    finally:
        await pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.bench_j1", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o711)  # the server's user has to reach its folder
        with EmbeddedPostgres(folder / "postgres") as server:
            asyncio.run(bench(server.url, folder, given.rows, given.rounds))


if __name__ == "__main__":
    main()
