"""postgres: merges by key, whatever types and orders their rows have."""

import asyncio

import pyarrow as pa

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import Receipt, WriteKind
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination

from .test_postgres_loads import ROWS, destination, execute, failure, load


async def merge(held: PostgresDestination, rows: pa.RecordBatch) -> Receipt:
    """By the key `id`, in one load."""
    request = load(write=WriteKind.MERGE, key=("id",))
    await held.prepare(request, rows.schema)
    await held.begin(request)
    await held.write(rows)
    receipt = await held.commit({})
    await held.close()
    return receipt


async def test_a_merge_needs_a_unique_key_and_says_how_to_make_one(empty_database_url: str, context: Context) -> None:
    await execute(empty_database_url, "CREATE TABLE held (id bigint, name text)")
    held = destination(empty_database_url, context)
    error = await failure(held.prepare(load(write=WriteKind.MERGE, key=("id",)), ROWS.schema))
    assert error.code == "merge-key-not-unique"
    assert 'CREATE UNIQUE INDEX ON "public"."held" ("id")' in error.detail


async def test_a_merge_sets_values_that_only_count_as_equal(empty_database_url: str, context: Context) -> None:
    await execute(
        empty_database_url,
        "CREATE TABLE held (id bigint PRIMARY KEY, span interval, spot point, zero double precision)",
        "INSERT INTO held VALUES (1, '1 month', '(1,2)', 0), (2, '1 month', '(1,2)', 0)",
    )
    rows = pa.record_batch({"id": [1, 2], "span": ["30 days", "1 mon"], "spot": ["(1,2)"] * 2, "zero": [-0.0, 0.0]})
    receipt = await merge(destination(empty_database_url, context), rows)
    assert (receipt.updated, receipt.unchanged) == (1, 1)
    found = await execute(empty_database_url, "SELECT span::text, zero::text FROM held ORDER BY id")
    assert [tuple(row) for row in found] == [("30 days", "-0"), ("1 mon", "0")]


async def test_a_type_that_is_only_called_as_one_of_the_servers_is_merged(
    empty_database_url: str, context: Context
) -> None:
    """It has no `=` to tell two values by."""
    await execute(
        empty_database_url,
        "CREATE SCHEMA own",
        "CREATE TYPE own.uuid AS (spot point)",
        "CREATE TABLE held (id bigint PRIMARY KEY, place own.uuid)",
        """INSERT INTO held VALUES (1, '("(1,2)")'), (2, '("(1,2)")')""",
    )
    rows = pa.record_batch({"id": [1, 2], "place": ['("(1,2)")', '("(3,4)")']})
    receipt = await merge(destination(empty_database_url, context), rows)
    assert (receipt.updated, receipt.unchanged) == (1, 1)


async def test_a_row_without_its_key_is_refused_where_a_key_may_be_null(
    empty_database_url: str, context: Context
) -> None:
    await execute(empty_database_url, "CREATE TABLE held (id bigint, part text, n int, UNIQUE (id, part))")
    rows = pa.record_batch({"id": [1, 1, 2], "part": ["a", None, None], "n": [1, 2, 3]})
    held, request = destination(empty_database_url, context), load(write=WriteKind.MERGE, key=("id", "part"))
    await held.prepare(request, rows.schema)
    await held.begin(request)
    await held.write(rows)
    error = await failure(held.commit({}))
    await held.close()
    assert (error.code, "2 rows for public.held" in error.detail) == ("merge-key-null", True)


async def test_merges_of_the_same_keys_in_other_orders_go_one_after_the_other(
    empty_database_url: str, context: Context
) -> None:
    """Side by side each would wait for rows of the other for ever."""
    ids = list(range(20_000))
    tables = [pa.table({"id": order, "by": [by] * len(ids)}) for by, order in enumerate((ids, ids[::-1]))]
    sides = [PostgresDestination(PostgresConfig(url=empty_database_url), context) for _ in tables]
    for side, rows in zip(sides, tables, strict=True):
        merge = load(write=WriteKind.MERGE, key=("id",))
        await side.prepare(merge, rows.schema)
        await side.begin(merge)
        await side.write(rows.to_batches()[0])
    receipts = await asyncio.gather(*(side.commit({}) for side in sides))
    assert sorted((one.inserted, one.updated) for one in receipts) == [(0, len(ids)), (len(ids), 0)]
    for side in sides:
        await side.close()
