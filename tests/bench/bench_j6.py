"""J6: changed orders merged by key into all of them, PostgreSQL to PostgreSQL, beside COPY and ON CONFLICT by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.bench import contest, orders
from tests.bench.jobs import Connector, between, through

CHANGED = 10
"""Every so many-th order is changed."""
CHANGES = f"""CREATE TABLE changes AS SELECT id, customer_id, store_id, amount + 1 AS amount, discount,
coalesce(note, 'none') || ', changed' AS note, city, NOT paid AS paid, ordered_on, created_at, ref, attributes
FROM orders WHERE id % {CHANGED} = 0"""
MERGED = f"(TABLE changes UNION ALL SELECT * FROM orders WHERE id % {CHANGED} <> 0)"
SETS = ", ".join(f"{name} = EXCLUDED.{name}" for name in orders.SCHEMA if name != "id")
STAGE = "CREATE TEMPORARY TABLE stage (LIKE target) ON COMMIT DROP"
UPSERT = f"INSERT INTO target SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET {SETS}"


@asynccontextmanager
async def j6(site: contest.Site) -> AsyncIterator[contest.Contest]:
    await orders.make(site.connection, site.rows)
    await site.connection.execute(CHANGES)
    await site.connection.execute("VACUUM ANALYZE changes")
    await site.connection.execute(f"CREATE TABLE merged AS {MERGED}")
    postgres = Connector("postgres", {"url": site.url})
    source = {"changes": {"stream": "public.changes"}}
    writing = {"stream": "public.target", "write": "merge", "key": ["id"]}

    async def before() -> None:
        await orders.make_target(site.connection)
        await site.connection.execute("INSERT INTO target TABLE orders")
        await site.connection.execute("ALTER TABLE target ADD PRIMARY KEY (id)")
        await site.connection.execute("VACUUM ANALYZE target")

    ours = contest.Contest(
        title=f"J6: {site.rows // CHANGED:,} changed orders of 12 columns merged into {site.rows:,} by key",
        roads={
            "COPY and ON CONFLICT (the limit)": lambda: by_hand(site.url),
            "run": lambda: through(site.pool, between(postgres, postgres, site.folder, source, writing=writing)),
        },
        before=before,
        verify=lambda _: orders.see_the_same(site.connection, "target", MERGED),
    )
    whole = {"kind": "sql", "what": "orders"}
    asked = {"kind": "sql", "what": "changes", "write": "merge", "key": "id"}
    yield contest.beside_peer(ours, site, contest.PeerJob(asked, wanted="merged", first=whole))


async def by_hand(url: str) -> None:
    reader, writer = await asyncpg.connect(url), await asyncpg.connect(url)
    async with writer.transaction():
        await writer.execute(STAGE)
        chunks = orders.copied(reader, "TABLE changes")
        await writer.copy_to_table("stage", source=chunks, format="binary")
        await writer.execute(UPSERT)
    await asyncio.gather(reader.close(), writer.close())


if __name__ == "__main__":
    contest.main("bench_j6", __doc__, j6)
