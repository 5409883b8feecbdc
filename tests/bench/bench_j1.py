"""J1: orders from PostgreSQL to PostgreSQL, undecoded and through Arrow with a filter, beside a binary COPY pipe."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import contest, orders
from tests.bench.jobs import job, through

SOURCE = {"orders": {"stream": "public.orders"}}


@asynccontextmanager
async def j1(site: contest.Site) -> AsyncIterator[contest.Contest]:
    await orders.make(site.connection, site.rows)
    filtered = [{"filter": "amount >= 0"}]
    ours = contest.Contest(
        title=f"J1: {site.rows:,} orders of 12 columns, PostgreSQL to PostgreSQL",
        roads={
            "binary COPY pipe (the limit)": lambda: orders.pipe(site.url),
            "run, undecoded": lambda: through(site.pool, job(site.url, site.folder, SOURCE, [])),
            "run, Arrow with a filter": lambda: through(site.pool, job(site.url, site.folder, SOURCE, filtered)),
        },
        before=lambda: orders.make_target(site.connection),
        verify=lambda _: orders.see_the_same(site.connection, "target", "orders"),
    )
    yield contest.beside_peer(ours, site, contest.PeerJob({"kind": "sql", "what": "orders"}))


if __name__ == "__main__":
    contest.main("bench_j1", __doc__, j1)
