"""Columns that nothing behind a source needs are not read, and whoever looks at all of them still sees all."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataaggregator.contracts.ledger import LedgerStage
from dataaggregator.dataplane.backfilling import slot_of
from dataaggregator.dataplane.compile.backfill import backfilled
from dataaggregator.dataplane.job import RunJob, RunOutcome, SchemaChange

from .conftest import Bench
from .test_backfilling import BEGUN, SINCE, merged
from .test_dry_run import plan
from .test_replaying import replay
from .test_runner import ORDERS, keep, target

Fill = Callable[[int], Awaitable[None]]
BY_CUSTOMER = {"aggregate": {"by": ["customer"], "measures": {"orders": "count(*)", "total": "sum(amount)"}}}
FEW = {"filter": "id % 3 = 0"}
SUMS = "SELECT customer, count(*) AS orders, sum(amount) AS total FROM orders WHERE id % 3 = 0 GROUP BY customer"
CLERK = """
CREATE ROLE {role};
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT (id, customer, amount) ON orders TO {role};
"""


async def succeeded(bench: Bench, job: RunJob) -> RunOutcome:
    outcome = await bench.run(job)
    assert (outcome.status, outcome.error, outcome.ledger.balanced) == ("succeeded", None, True)
    return outcome


def source(outcome: RunOutcome, name: str = "orders") -> LedgerStage:
    (found,) = [stage for stage in outcome.ledger.stages if stage.stage == name]
    return found


@pytest.fixture
async def clerk(bench: Bench, orders: Fill, db: asyncpg.Connection, empty_database_url: str) -> str:
    """A connector of somebody whom PostgreSQL lets read three of the five columns; 30 orders are there."""
    await orders(30)
    await succeeded(bench, bench.job({"orders": ORDERS}, [target(input="orders", stream="public.before")]))
    role = f"clerk_{uuid4().hex}"
    await db.execute(CLERK.format(role=role))
    bench.connector("clerk", "postgres", {"url": empty_database_url, "options": {"role": role}})
    return role


async def test_postgres_is_asked_for_no_other_column(
    bench: Bench, orders: Fill, db: asyncpg.Connection, clerk: str
) -> None:
    """The server itself would refuse another one: as it does where all are needed."""
    orders_of_clerk = ORDERS | {"connector": "clerk"}
    job = bench.job({"orders": orders_of_clerk}, [target("replace")], [keep(FEW, BY_CUSTOMER)])
    outcome = await succeeded(bench, job)
    assert source(outcome).columns == ("id", "customer", "amount")
    assert (source(outcome).read, source(outcome).written) == (30, 30)
    assert await db.fetchval(f"SELECT count(*) FROM (({SUMS}) EXCEPT ALL TABLE target) x") == 0
    assert await db.fetchval("SELECT count(*) FROM target") == 10
    refused = await bench.run(bench.job({"orders": orders_of_clerk}, [target("replace")], [keep(FEW)]))
    assert refused.error is not None
    assert "permission denied" in refused.error.detail


async def test_a_projection_that_needs_no_engine_reads_no_more_than_it_gives(
    bench: Bench, db: asyncpg.Connection, clerk: str
) -> None:
    chosen = keep({"select": ["amount", "id"]}, {"rename": {"id": "number"}})
    job = bench.job({"orders": ORDERS | {"connector": "clerk"}}, [target("replace")], [chosen])
    assert source(await succeeded(bench, job)).columns == ("id", "amount")
    assert await db.fetchval("SELECT count(*) FROM (SELECT amount, id FROM orders EXCEPT TABLE target) x") == 0


async def test_a_view_is_read_like_a_table_and_a_query_as_it_is_written(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(30)
    await db.execute("CREATE VIEW seen AS SELECT *, unnest(ARRAY[1, 2]) AS twice FROM orders")
    sums = [keep(BY_CUSTOMER)]
    outcome = await succeeded(bench, bench.job({"orders": ORDERS | {"stream": "public.seen"}}, [target()], sums))
    assert (source(outcome).columns, source(outcome).read) == (("customer", "amount"), 60)
    query = {"connector": "pg", "query": "SELECT * FROM orders"}
    outcome = await succeeded(bench, bench.job({"orders": query}, [target("replace")], sums))
    assert (source(outcome).columns, source(outcome).read) == (None, 30)


async def test_the_rows_of_several_destinations_have_what_each_of_them_needs(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(30)
    notes = keep({"select": ["id", "note"]}, name="notes")
    both = [target(), target(input="notes", stream="public.notes")]
    outcome = await succeeded(bench, bench.job({"orders": ORDERS}, both, [keep(FEW, BY_CUSTOMER), notes]))
    assert source(outcome).columns == ("id", "customer", "amount", "note")
    assert await db.fetchval("SELECT count(*) FROM (SELECT id, note FROM orders EXCEPT TABLE notes) x") == 0
    whole = [target(), target(input="orders", stream="public.copy")]
    outcome = await succeeded(bench, bench.job({"orders": ORDERS}, whole, [keep(BY_CUSTOMER)]))
    assert source(outcome).columns is None


async def test_a_row_that_is_set_aside_has_all_its_values_and_comes_in_again_with_them(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    """Though the step behind leaves most of them out."""
    await orders(30)
    steps = ({"validate": [{"rule": "small", "check": "id <= 20"}]}, {"select": ["id", "note"]})
    job = bench.job({"orders": ORDERS}, [target()], [keep(*steps)])
    outcome = await succeeded(bench, job)
    assert (source(outcome).columns, outcome.counts.rows_rejected) == (None, 10)
    (path,) = bench.folder.rglob(outcome.quarantine[0].file)
    rows = [row["row"] for row in pq.read_table(path).to_pylist()]
    assert [set(row) for row in rows] == [{"id", "customer", "amount", "note", "placed_at"}] * 10
    again = await bench.run(replay(bench, job, outcome, {"select": ["note", "placed_at"]}))
    assert (again.status, again.error) == ("succeeded", None)
    assert await db.fetchval("SELECT count(*) FROM target WHERE placed_at IS NOT NULL") == 10


async def test_a_name_that_nobody_has_is_told_beside_all_there_are(bench: Bench, orders: Fill) -> None:
    """Also one in an expression, which is known to be wrong when it is bound only."""
    await orders(3)
    job = bench.job({"orders": ORDERS}, [target()], [keep({"filter": "noted = 'a'"}, BY_CUSTOMER)])
    outcome = await bench.run(job)
    assert outcome.error is not None
    assert outcome.error.code == "definition-invalid"
    assert '"note"' in outcome.error.detail
    job = bench.job({"orders": ORDERS}, [target()], [keep({"select": ["noted"]})])
    outcome = await bench.run(job)
    assert outcome.error is not None
    assert "placed_at" in outcome.error.detail


async def test_a_table_that_gets_a_column_nobody_needs_is_told_where_rows_arrive_whole(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(3)
    copied, sums = [target("replace", input="orders", stream="public.copy")], [target("replace")]
    for destinations, steps in ((copied, []), (sums, [keep(BY_CUSTOMER)])):
        await succeeded(bench, bench.job({"orders": ORDERS}, destinations, steps))
    await db.execute("ALTER TABLE orders ADD more text")
    bench.frames.clear()
    outcome = await succeeded(bench, bench.job({"orders": ORDERS}, sums, [keep(BY_CUSTOMER)]))
    assert source(outcome).columns == ("customer", "amount")
    assert not [frame for frame in bench.frames if isinstance(frame, SchemaChange)]
    await succeeded(bench, bench.job({"orders": ORDERS}, copied))
    (told,) = [frame for frame in bench.frames if isinstance(frame, SchemaChange)]
    assert [(one.kind, one.field) for one in told.changes] == [("added", "more")]


async def test_what_is_kept_of_a_source_is_kept_whole(bench: Bench, orders: Fill) -> None:
    await orders(30)
    kept = SINCE["orders"] | {"keep": "full", "primary_key": ["id"]}
    job = bench.job({"orders": kept}, [target("replace")], [keep(BY_CUSTOMER)])
    outcome = await succeeded(bench, job)
    assert source(outcome, "orders (new)").columns is None
    (copy,) = (bench.folder / "kept").rglob("*.parquet")
    assert pq.read_schema(copy).names == ["id", "customer", "amount", "note", "placed_at"]


async def test_an_incremental_read_goes_on_from_its_cursor_which_is_among_its_columns(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(30)
    written = target("merge", key=["id"], chunk_rows=7)
    job = bench.job(SINCE, [written], [keep({"select": ["id", "note"]})])
    outcome = await succeeded(bench, job)
    assert (source(outcome).columns, source(outcome).read) == (("id", "note", "placed_at"), 30)
    assert outcome.destinations[0].receipt is not None
    assert outcome.destinations[0].receipt.chunks == 5
    await orders(33)
    again = job.model_copy(update={"run_id": uuid4(), "epoch": 2, "folder": f"{job.folder}-again"})
    assert source(await succeeded(bench, again)).read == 3
    assert await db.fetchval("SELECT count(*) FROM (SELECT id, note FROM orders EXCEPT TABLE target) x") == 0


async def test_a_slot_of_a_backfill_reads_no_more_either(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(30)
    live = bench.job(SINCE, [merged(input="keep", version_field=None)], [keep({"select": ["id", "note"]})])
    run, day = uuid4(), BEGUN.replace(day=2)
    definition = backfilled(live.definition, overwrite=True)
    changes = {"run_id": run, "folder": str(bench.folder / str(run)), "definition": definition}
    job = live.model_copy(update={**changes, "slot": slot_of(UUID(int=12), BEGUN, day)})
    outcome = await succeeded(bench, job)
    assert (source(outcome).columns, source(outcome).read) == (("id", "note", "placed_at"), 30)
    assert await db.fetchval("SELECT count(*) FROM target") == 30


async def test_a_plan_says_which_columns_a_run_reads(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(30)
    sums, whole = keep(FEW, BY_CUSTOMER), keep(FEW)
    current, proposed = (bench.job({"orders": ORDERS}, [target("replace")], [node]) for node in (whole, sums))
    told = await plan(bench, current, proposed)
    assert told.current is not None
    assert told.proposed is not None
    (before,), (after,) = told.current.sources, told.proposed.sources
    assert (before.columns, after.columns) == (None, ("id", "customer", "amount"))
    assert after.row_schema == before.row_schema, "the sample is of all columns, for whoever looks at it"
    assert source(await succeeded(bench, proposed)).columns == after.columns


async def test_of_parquet_only_the_columns_that_are_needed_are_read(bench: Bench) -> None:
    table = pa.table({"id": range(1000), "k": [n % 10 for n in range(1000)], "text": ["x" * 99] * 1000})
    outcome = await of_file(bench, "rows.parquet", lambda path: pq.write_table(table, path))
    assert (source(outcome, "rows").columns, source(outcome, "rows").read) == (("k",), 1000)
    assert source(outcome, "rows").bytes < 9_000


async def test_a_row_of_a_csv_file_is_rejected_for_a_column_that_nobody_needs(bench: Bench) -> None:
    lines = ["id,k,n", *(f"{n},{n % 10},{n}" for n in range(1, 20)), "20,0,many"]
    given = {"schema": {"id": "bigint", "k": "bigint", "n": "bigint"}}
    outcome = await of_file(bench, "rows.csv", lambda path: path.write_text("\n".join(lines)), **given)
    rows = source(outcome, "rows")
    assert (rows.columns, rows.read, rows.written, rows.rejected) == (None, 20, 19, 1)


async def of_file(bench: Bench, name: str, write: Callable[[Path], Any], **more: Any) -> RunOutcome:
    """A file's rows counted by `k`, into another file."""
    for folder in ("in", "out"):
        (bench.folder / folder).mkdir()
        bench.connector(folder, "files", {"root": f"file://{bench.folder}/{folder}"})
    await asyncio.to_thread(write, bench.folder / "in" / name)
    count = {"aggregate": {"by": ["k"], "measures": {"n": "count(*)"}}}
    job = bench.job(
        {"rows": {"connector": "in", "stream": name, **more}},
        [{"connector": "out", "input": "keep", "stream": "counted.parquet", "write": "replace"}],
        [keep(count, inputs=("rows",))],
    )
    return await succeeded(bench, job)
