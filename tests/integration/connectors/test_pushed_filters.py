"""postgres, filters pushed down: the server leaves out the very rows that the engine would, and counts them alike."""

import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.connector.conditions import Compared, Truth
from dataaggregator.connector.context import Context
from dataaggregator.connector.source import ReadMode, ReadRequest
from dataaggregator.dataplane.batch import LeftOut
from dataaggregator.dataplane.compile.filters import MOST, condition_of
from dataaggregator.dataplane.steps.engine import Engine
from dataaggregator.errors import Permanent
from dataaggregator_connectors.postgres import source as source_of_postgres
from dataaggregator_connectors.postgres.conditions import counted
from dataaggregator_connectors.postgres.source import PostgresSource
from tests.graphs import Around, through

from .test_postgres_loads import execute, source

HELD = """CREATE TABLE held AS
    SELECT n AS id, x[1 + n % 7]::int2 AS a, y[1 + n % 5]::int4 AS b, z[1 + n % 11]::int8 AS c,
    (ARRAY[true, false, NULL])[1 + n % 3] AS yes, 'row ' || n AS note
    FROM generate_series(1, 1155) n, (SELECT ARRAY[-32768, -1, 0, 1, 2, 32767, NULL] AS x,
        ARRAY[-2147483648, 0, 7, 2147483647, NULL] AS y,
        ARRAY[-9223372036854775808, -9223372036854775807, -32769, -5, 0, 5, 99, 32768, 2147483648, 9223372036854775807,
              NULL] AS z) v"""
HELD_STREAM = ReadRequest(stream="public.held", columns=("id", "a", "b", "c", "yes"))
NUMBERS = [-MOST, -2147483649, -32769, -32768, -5, -1, 0, 1, 2, 5, 7, 99, 32767, 32768, 2147483647, 4294967296, MOST]


@pytest.fixture
async def held(empty_database_url: str, context: Context) -> AsyncIterator[PostgresSource]:
    await execute(empty_database_url, HELD)
    made = source(empty_database_url, context)
    yield made
    await made.close()


def a_condition(chance: random.Random, depth: int = 2) -> str:
    column, number = chance.choice("abc"), chance.choice(NUMBERS)
    kinds = ["compare"] * 3 + ["turned", "in", "between", "null", "truth"] + ["and", "or", "not"] * depth
    match chance.choice(kinds):
        case "compare":
            return f"{column} {chance.choice(['=', '<>', '!=', '<', '<=', '>', '>='])} {number}"
        case "turned":
            return f"{number} {chance.choice(['=', '<', '<=', '>', '>='])} {column}"
        case "in":
            return f"{column} {chance.choice(['in', 'not in'])} ({number}, {chance.choice(NUMBERS)})"
        case "between":
            return f"{column} between {min(number, 0)} and {max(number, 0)}"
        case "null":
            return f"{chance.choice([column, 'yes'])} is {chance.choice(['', 'not '])}null"
        case "truth":
            return "yes"
        case "not":
            return f"not ({a_condition(chance, depth - 1)})"
        case both:
            return f"({a_condition(chance, depth - 1)}) {both} {a_condition(chance, depth - 1)}"


async def read(held: PostgresSource, request: ReadRequest) -> tuple[list[dict[str, Any]], LeftOut | None]:
    batches = [batch async for batch in held.read(request)]
    rows = [row for batch in batches for row in batch.rows.to_pylist()]
    return rows, next((batch.left_out for batch in batches if batch.left_out is not None), None)


async def test_the_server_leaves_out_what_the_engine_would_and_counts_it_by_the_same_causes(
    held: PostgresSource, tmp_path: Path
) -> None:
    whole = pa.Table.from_batches([batch.rows async for batch in held.read(HELD_STREAM)])
    engine, chance, seen = Around(Engine(1 << 30, tmp_path, 1 << 30)), random.Random(7), 0
    for text in (a_condition(chance) for _ in range(150)):
        condition = condition_of(text, whole.schema)
        assert condition is not None, text
        assert await held.filters(HELD_STREAM, condition), text
        rows, left_out = await read(held, replace(HELD_STREAM, condition=condition))
        wanted = through([{"filter": text}], {"flow": whole}, engine, 500)
        assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in wanted.values), text
        assert left_out is not None
        assert left_out.by_rule == wanted.counts[0].filtered, text
        seen += 0 < len(rows) < whole.num_rows
    assert seen > 50, "and most of them part the rows"


async def test_rows_that_come_meanwhile_are_neither_counted_nor_read(
    held: PostgresSource, empty_database_url: str
) -> None:
    request = replace(HELD_STREAM, condition=Compared("a", ">", 0), batch_rows=100)
    async with aclosing(held.read(request)) as batches:
        first = await anext(batches)
        assert first.left_out == LeftOut(false=495, null=165)
        await execute(empty_database_url, "INSERT INTO held SELECT * FROM held", "DELETE FROM held WHERE a = 1")
        assert sum([batch.rows.num_rows async for batch in batches]) == 1155 - 495 - 165


async def test_rows_that_are_not_what_was_counted_end_the_read(
    held: PostgresSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        source_of_postgres, "counted", lambda condition, _: counted(condition, "(SELECT * FROM held LIMIT 7) h")
    )
    with pytest.raises(Permanent, match=r"330 rows came|495 rows came") as caught:
        await read(held, replace(HELD_STREAM, condition=Compared("a", ">", 0)))
    assert caught.value.code == "unbalanced"


RELATIONS = {
    "CREATE TABLE held (a int2, yes bool, n numeric)": True,
    "CREATE MATERIALIZED VIEW held AS SELECT 1 AS a, true AS yes": True,
    "CREATE VIEW held AS SELECT 1 AS a, random() < 0.5 AS yes": False,
    "CREATE TABLE held (a int, yes bool) PARTITION BY RANGE (a)": False,
    "CREATE TABLE held (a numeric, yes bool)": False,
    "CREATE TABLE held (a int[], yes bool)": False,
    "CREATE TABLE held (a oid, yes bool)": False,
}


@pytest.mark.parametrize("made", RELATIONS)
async def test_only_of_what_is_stored_and_of_numbers_that_mean_the_same(
    empty_database_url: str, context: Context, made: str
) -> None:
    """A view may give other rows each time it is read."""
    await execute(empty_database_url, made)
    held = source(empty_database_url, context)
    assert await held.filters(ReadRequest(stream="public.held"), Compared("a", ">", 0)) is RELATIONS[made]
    await held.close()


async def test_not_what_is_read_by_a_query_a_cursor_a_type_of_ones_own_or_would_be_long_read_twice(
    held: PostgresSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    condition = Truth("yes")
    assert await held.filters(HELD_STREAM, condition)
    assert not await held.filters(ReadRequest(query="SELECT true AS yes"), condition)
    since = ReadRequest(stream="public.held", mode=ReadMode.INCREMENTAL, cursor_field="id")
    assert not await held.filters(since, condition)
    assert not await held.filters(replace(HELD_STREAM, schema={"yes": "text"}), condition)
    assert not await held.filters(replace(HELD_STREAM, limit=3), condition)
    monkeypatch.setattr(source_of_postgres, "COUNTED_BYTES", 8191)
    assert not await held.filters(HELD_STREAM, condition)
