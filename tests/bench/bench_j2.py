"""J2: orders from a CSV file to PostgreSQL, beside `psql`'s COPY of the same file."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from dataaggregator.embedded.binaries import NEWEST, postgres_programs
from tests.bench import contest, orders
from tests.bench.jobs import Connector, between, through

# COPY would write t and f, which PostgreSQL alone reads as true and false.
TEXTS = ", ".join("paid::text" if name == "paid" else name for name in orders.SCHEMA)
SOURCE = {"orders": {"stream": "orders.csv", "schema": orders.SCHEMA}}


@asynccontextmanager
async def j2(site: contest.Site) -> AsyncIterator[contest.Contest]:
    await orders.make(site.connection, site.rows)
    file = site.folder / "orders.csv"
    await site.connection.copy_from_query(f"SELECT {TEXTS} FROM orders", output=file, format="csv", header=True)
    files = Connector("files", {"root": f"file://{site.folder}"})
    postgres = Connector("postgres", {"url": site.url})
    ours = contest.Contest(
        title=f"J2: {site.rows:,} orders of 12 columns, CSV to PostgreSQL",
        roads={
            "psql COPY csv (the limit)": lambda: psql(site.url, file),
            "run": lambda: through(site.pool, between(files, postgres, site.folder, SOURCE)),
        },
        before=lambda: orders.make_target(site.connection),
        verify=lambda _: orders.see_the_same(site.connection, "target", "orders"),
    )
    asked = {"kind": "csv", "source": str(site.folder), "what": file.name}
    yield contest.beside_peer(ours, site, contest.PeerJob(asked))


async def psql(url: str, file: Path) -> None:
    server = urlsplit(url)
    # By its environment: everybody on the machine can see words.
    login = {
        "PGHOST": server.hostname or "",
        "PGPORT": str(server.port),
        "PGDATABASE": server.path[1:],
        "PGUSER": server.username or "",
        "PGPASSWORD": server.password or "",
    }
    program = postgres_programs(NEWEST, None) / "psql"
    command = f"\\copy target FROM '{file}' (FORMAT csv, HEADER)"
    loading = await asyncio.create_subprocess_exec(
        program, "--no-psqlrc", "--quiet", "--command", command, env={**os.environ, **login}
    )
    if await loading.wait() != 0:
        raise RuntimeError("psql has not loaded the file")


if __name__ == "__main__":
    contest.main("bench_j2", __doc__, j2)
