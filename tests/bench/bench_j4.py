"""J4: a filter and a group-by, PostgreSQL to PostgreSQL, by steps and by a query, beside a COPY (query) pipe."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import contest, orders
from tests.bench.jobs import Steps, job, through

TARGET = "CREATE TABLE target (customer_id int NOT NULL, orders bigint NOT NULL, total numeric NOT NULL)"
QUERY = (
    "SELECT customer_id, count(*) AS orders, sum(amount) AS total FROM orders WHERE store_id < 150 GROUP BY customer_id"
)
STEPS: Steps = [
    {"filter": "store_id < 150"},
    {"aggregate": {"by": ["customer_id"], "measures": {"orders": "count(*)", "total": "sum(amount)"}}},
]


@asynccontextmanager
async def j4(site: contest.Site) -> AsyncIterator[contest.Contest]:
    await orders.make(site.connection, site.rows)
    await site.connection.execute(f"CREATE VIEW grouping AS {QUERY}")
    await site.connection.execute("CREATE TABLE grouped AS TABLE grouping")
    stream, query = {"orders": {"stream": "public.orders"}}, {"orders": {"query": QUERY}}

    async def before() -> None:
        await site.connection.execute("DROP TABLE IF EXISTS target")
        await site.connection.execute(TARGET)

    ours = contest.Contest(
        title=f"J4: {site.rows:,} orders filtered and grouped, PostgreSQL to PostgreSQL",
        roads={
            "COPY (query) pipe (the limit)": lambda: orders.pipe(site.url, QUERY),
            "run, filter and aggregate": lambda: through(site.pool, job(site.url, site.folder, stream, STEPS)),
            "run, query": lambda: through(site.pool, job(site.url, site.folder, query, [])),
        },
        before=before,
        verify=lambda _: orders.see_the_same(site.connection, "target", f"({QUERY})"),
    )
    yield contest.beside_peer(ours, site, contest.PeerJob({"kind": "sql", "what": "grouping"}, wanted="grouped"))


if __name__ == "__main__":
    contest.main("bench_j4", __doc__, j4)
