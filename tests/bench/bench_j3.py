"""J3: orders from PostgreSQL to Parquet, beside a raw binary read whose bytes nobody takes."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import duckdb

from tests.bench import contest, orders, peers
from tests.bench.jobs import Connector, between, through

SOURCE = {"orders": {"stream": "public.orders"}}
READ = "raw binary read (the limit)"


@asynccontextmanager
async def j3(site: contest.Site) -> AsyncIterator[contest.Contest]:
    await orders.make(site.connection, site.rows)
    postgres = Connector("postgres", {"url": site.url})
    written = site.folder / "written"
    files = Connector("files", {"root": f"file://{written}"})
    writing = {"stream": "orders.parquet", "write": "replace"}

    async def before() -> None:
        shutil.rmtree(written, ignore_errors=True)
        written.mkdir()
        await orders.make_target(site.connection)

    async def verify(road: str) -> None:
        if road != READ:
            await bring_back(site.connection, written)
            await orders.see_the_same(site.connection, "target", "orders")

    ours = contest.Contest(
        title=f"J3: {site.rows:,} orders of 12 columns, PostgreSQL to Parquet",
        roads={
            READ: lambda: read(site.url),
            "run": lambda: through(site.pool, between(postgres, files, site.folder, SOURCE, writing=writing)),
        },
        before=before,
        verify=verify,
    )
    asked = {"kind": "sql", "what": "orders", "destination": f"file://{written}"}
    bring = partial(peers.bring_back, site.connection, written / peers.SCHEMA / "target")
    yield contest.beside_peer(ours, site, contest.PeerJob(asked, bring=bring))


async def read(url: str) -> None:
    connection = await asyncpg.connect(url)
    async for _ in orders.copied(connection):
        pass
    await connection.close()


async def bring_back(connection: asyncpg.Connection, written: Path) -> None:
    """What stands in the Parquet files, by another reader and as text, into `target`."""
    texts = written / "orders.csv"
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        engine.execute(f"COPY (FROM read_parquet('{written}/*.parquet')) TO '{texts}' (FORMAT csv)")
    await connection.copy_to_table("target", source=texts, format="csv", header=True)


if __name__ == "__main__":
    contest.main("bench_j3", __doc__, j3)
