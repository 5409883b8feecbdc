"""J5: orders from a REST API, 1,000 a page, to PostgreSQL, beside fetching the pages alone, four in flight."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.bench import contest, orders
from tests.bench.jobs import Connector, between, through

PAGE_ROWS = 1_000
IN_FLIGHT = 4
SOURCE = {"orders": {"stream": "orders", "schema": orders.SCHEMA}}
PAGES = {"type": "page", "size_param": "size", "size": PAGE_ROWS}
FETCH = "fetch only (the limit)"
PAGE = """SELECT jsonb_build_object('items', jsonb_agg(to_jsonb(o) ORDER BY id))::text FROM orders AS o
GROUP BY (id - 1) / $1 ORDER BY (id - 1) / $1"""


@asynccontextmanager
async def j5(site: contest.Site) -> AsyncIterator[contest.Contest]:
    await orders.make(site.connection, site.rows)
    pages = [row[0] for row in await site.connection.fetch(PAGE, PAGE_ROWS)]
    (site.folder / "pages.ndjson").write_text("\n".join(pages))
    postgres = Connector("postgres", {"url": site.url})
    async with served(site.folder / "pages.ndjson") as url:
        streams = {"orders": {"path": "/orders", "records": "$.items", "pagination": PAGES}}
        api = Connector("http", {"base_url": url, "streams": streams})

        async def verify(road: str) -> None:
            if road != FETCH:
                await orders.see_the_same(site.connection, "target", "orders")

        ours = contest.Contest(
            title=f"J5: {site.rows:,} orders of 12 columns, a REST API's pages of {PAGE_ROWS:,} to PostgreSQL",
            roads={
                FETCH: lambda: fetch(f"{url}/orders", len(pages)),
                "run": lambda: through(site.pool, between(api, postgres, site.folder, SOURCE)),
            },
            before=lambda: orders.make_target(site.connection),
            verify=verify,
        )
        asked: dict[str, str | int] = {"kind": "api", "source": url, "what": "orders", "rows": PAGE_ROWS}
        yield contest.beside_peer(ours, site, contest.PeerJob(asked))


@asynccontextmanager
async def served(pages: Path) -> AsyncIterator[str]:
    """The address of the API, in a process of its own."""
    words = (sys.executable, "-m", "tests.bench.paged_api", str(pages))
    serving = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert serving.stdout is not None
        yield (await serving.stdout.readline()).decode().strip()
    finally:
        serving.terminate()
        await serving.wait()


async def fetch(url: str, pages: int) -> None:
    left = iter(range(1, pages + 2))  # the one behind the last is empty

    async def some(session: aiohttp.ClientSession) -> None:
        for page in left:
            async with session.get(url, params={"page": str(page), "size": str(PAGE_ROWS)}) as answer:
                answer.raise_for_status()
                await answer.read()

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(some(session) for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    contest.main("bench_j5", __doc__, j5, rows=200_000)
