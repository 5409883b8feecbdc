"""The benchmarks of the data plane at a small size: each road does its job, and one that does not is found."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import duckdb
import pytest

from dataaggregator.dataplane.processes import ProcessPool
from tests.bench import contest, orders, peers, record
from tests.bench.bench_j1 import j1
from tests.bench.bench_j2 import j2
from tests.bench.bench_j3 import j3
from tests.bench.bench_j4 import j4
from tests.bench.bench_j5 import j5
from tests.bench.bench_j6 import j6

ROWS = 2_500
CONTESTS = pytest.mark.parametrize("contesting", [j1, j2, j3, j4, j5, j6], ids=lambda one: one.__name__)


@pytest.fixture
def site(empty_database_url: str, db: asyncpg.Connection, pool: ProcessPool, tmp_path: Path) -> contest.Site:
    return contest.Site(empty_database_url, db, pool, tmp_path, ROWS)


@CONTESTS
async def test_every_road_does_the_job(
    contesting: contest.Contesting, site: contest.Site, capsys: pytest.CaptureFixture[str]
) -> None:
    contest.tell(await contest.hold(contesting, site, rounds=2))
    table = capsys.readouterr().out.splitlines()
    assert sum("the limit" in line for line in table) == 1
    assert any(line.startswith("  run") for line in table)


@CONTESTS
async def test_a_road_that_does_nothing_gives_no_figure(contesting: contest.Contesting, site: contest.Site) -> None:
    @asynccontextmanager
    async def idle(site: contest.Site) -> AsyncIterator[contest.Contest]:
        async with contesting(site) as real:
            yield replace(real, roads={"run": nothing})

    with pytest.raises((RuntimeError, duckdb.IOException)):
        await contest.hold(idle, site, rounds=1)


async def nothing() -> None: ...


async def test_one_value_that_is_another_is_found(site: contest.Site) -> None:
    await orders.make(site.connection, ROWS)
    await orders.make_target(site.connection)
    await orders.pipe(site.url)
    await orders.see_the_same(site.connection, "target", "orders")
    await site.connection.execute("UPDATE target SET discount = NULL WHERE id = 1")
    with pytest.raises(RuntimeError, match="has"):
        await orders.see_the_same(site.connection, "target", "orders")


async def test_what_a_peer_changed_is_said_and_what_it_lost_is_no_figure(site: contest.Site) -> None:
    await orders.make(site.connection, ROWS)
    await site.connection.execute("CREATE SCHEMA peer")
    columns = "id, customer_id, store_id, amount::float8 AS amount, discount, note, city, paid, ordered_on, created_at"
    await site.connection.execute(f"CREATE TABLE peer.target AS SELECT {columns}, ref::text AS ref FROM orders")
    assert await peers.changes(site.connection, "orders") == [
        "amount numeric(12,2) to double precision",
        "ref uuid to text",
        "attributes is missing",
    ]
    await site.connection.execute("UPDATE peer.target SET note = note || ' ' WHERE id = 1")
    assert "values of note" in await peers.changes(site.connection, "orders")
    await site.connection.execute("DELETE FROM peer.target WHERE id = 1")
    with pytest.raises(RuntimeError, match="rows and the sum of id"):
        await peers.changes(site.connection, "orders")


async def test_what_was_measured_stands_on_its_page_in_the_place_of_what_was_before(
    site: contest.Site, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(record.PAGE.read_text("utf-8"), "utf-8")
    found = await contest.hold(j1, site, rounds=2)
    for _ in range(2):
        record.put(page, record.as_table([found]))
    written = page.read_text("utf-8")
    assert written.count(f"**{found.title}**") == 1
    assert written.partition(record.BEGIN)[0] == record.PAGE.read_text("utf-8").partition(record.BEGIN)[0]
    assert all(f"| {road} |" in written for road in found.taken)
    beside = replace(found, taken={**found.taken, peers.DLT: [contest.Taken(60.0, 0.0, 0.0)]})
    assert f"| 1.00 | {60 / found.median(next(iter(found.taken))):.1f} |" in record.as_table([beside])
    page.write_text("no place", "utf-8")
    with pytest.raises(ValueError, match="no place"):
        record.put(page, "text")
