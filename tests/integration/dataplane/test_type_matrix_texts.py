"""PostgreSQL's types through CSV and NDJSON and back: each value as it was, or refused with its column named."""

import logging
from collections.abc import Mapping
from typing import Any

import asyncpg
import pyarrow as pa
import pytest

from dataaggregator.connector.source import ReadRequest
from dataaggregator.connector.typenames import NAMES
from dataaggregator.dataplane.job import JobSettings
from dataaggregator.dataplane.opening import Opening
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.source import PostgresSource

from .conftest import Bench
from .test_type_matrix import BEYOND_ARROW, SOURCE, arrived, changed, fill, prepare, quoted, to
from .values_of_postgres import VALUES

WORDS = {type_: word for word, type_ in NAMES.items()}
BEYOND_PYTHON = ("date", "timestamp without time zone", "timestamp with time zone", "date[]")
"""With the years before 1 and after 9999, for which texts have no form of ours."""
WITHIN = {type_: tuple(value for value in VALUES[type_] if "BC" not in value) for type_ in BEYOND_PYTHON}
WITHIN["date"] = tuple(value for value in WITHIN["date"] if value < "5")
WITHIN["date[]"] = ("{0001-01-01,9999-12-31,NULL}", "{}")
NOT_FROM_TEXT = (*BEYOND_ARROW, "interval day to second(0)")
"""No column of these takes a text, which might be cut: it is refused before a row is read."""
NOT_AS_WRITTEN = ("json", "jsonb")
"""A document within a document keeps its values, not their form."""
DOCUMENTS = ('{"a": 1, "b": [null, 2.5, {"c": ""}]}', '"é"', "{}", "12345678901234567890.12345678901234567890", "[]")
OTHERS = (*BEYOND_PYTHON, *NOT_FROM_TEXT, *NOT_AS_WRITTEN)
EXACT = {type_: held for type_, held in VALUES.items() if type_ not in OTHERS} | WITHIN


@pytest.fixture
async def db(db: asyncpg.Connection, bench: Bench, empty_database_url: str) -> asyncpg.Connection:
    await prepare(bench, db, empty_database_url)
    return db


def word(type_: Any) -> str:
    """What the type is called in a `schema`."""
    if pa.types.is_list(type_):
        return f"{word(type_.value_type)}[]"
    if pa.types.is_decimal(type_):
        return f"decimal({type_.precision},{type_.scale})"
    return WORDS[type_]


async def read_as(url: str, bench: Bench) -> Mapping[str, str]:
    """The columns of `t`, each with the word for what it is read as."""
    context = Opening(JobSettings(egress_private=True), bench.folder, logging.getLogger()).context()
    source = PostgresSource(PostgresConfig.model_validate({"url": url}), context)
    schema = await source.schema(ReadRequest(stream="public.t"))
    await source.close()
    return {field.name: word(field.type) for field in schema}


def into(form: str) -> dict[str, Any]:
    return to() | {"connector": "lake", "stream": f"t.{form}"}


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_values_pass_through_a_file_of_text_by_a_schema(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str, form: str
) -> None:
    values = EXACT | {"jsonb": DOCUMENTS} | ({"json": VALUES["json"][:4]} if form == "csv" else {})
    await fill(db, values)
    outcome = await bench.run(bench.job(SOURCE, [into(form)]))
    arrived(outcome)
    await db.execute("CREATE TABLE out.t (LIKE t)")
    schema = await read_as(empty_database_url, bench)
    source = {"t": {"connector": "lake", "stream": f"t.{form}", "schema": schema}}
    outcome = await bench.run(bench.job(source, [to()]))
    arrived(outcome)
    assert outcome.counts.rows_rejected == 0
    assert await changed(db, values) == []


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("type_", BEYOND_PYTHON)
async def test_a_year_that_a_text_cannot_say_is_refused_with_its_column(
    bench: Bench, db: asyncpg.Connection, form: str, type_: str
) -> None:
    await fill(db, {type_: VALUES[type_]})
    outcome = await bench.run(bench.job(SOURCE, [into(form)]))
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "value-does-not-fit")
    assert f"Column {type_} (" in outcome.error.detail
    assert not (bench.folder / f"t.{form}").exists()


async def test_a_column_that_would_cut_a_text_is_named_before_a_row_is_read(
    bench: Bench, db: asyncpg.Connection
) -> None:
    await fill(db, {type_: VALUES[type_] for type_ in NOT_FROM_TEXT})
    arrived(await bench.run(bench.job(SOURCE, [into("csv")])))
    await db.execute("CREATE TABLE out.t (LIKE t)")
    schema = {"id": "bigint"} | dict.fromkeys(NOT_FROM_TEXT, "text")
    source = {"t": {"connector": "lake", "stream": "t.csv", "schema": schema}}
    outcome = await bench.run(bench.job(source, [to()]))
    assert outcome.error is not None
    assert (outcome.error.code, outcome.counts.rows_read) == ("column-incompatible", 0)
    assert all(f"string does not fit {type_}" in outcome.error.detail for type_ in NOT_FROM_TEXT)


async def test_a_document_in_ndjson_keeps_its_values_and_is_none_where_it_is_null(
    bench: Bench, db: asyncpg.Connection
) -> None:
    """Its spaces and the zeros that end a number are form; null is JSON's word for NULL. One that says a name twice has
    two values, and its row is set aside."""
    await fill(db, {"json": ('{"a": 1, "a": 2}', ' { "b" : 1.10 } ', "null", '"\\u0000"')})
    arrived(await bench.run(bench.job(SOURCE, [into("ndjson")])))
    schema = {"id": "bigint", "json": "json"}
    source = {"t": {"connector": "lake", "stream": "t.ndjson", "schema": schema}}
    await db.execute("CREATE TABLE out.t (LIKE t)")
    outcome = await bench.run(bench.job(source, [to()]))
    arrived(outcome)
    found = [row[0] for row in await db.fetch(f"SELECT {quoted('json')}::text FROM out.t ORDER BY id")]
    assert (outcome.counts.rows_rejected, found) == (1, ['{"b":1.1}', None, '"\\u0000"', None])
