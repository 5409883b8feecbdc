"""PostgreSQL's types at the edges of their values, by every road: each arrives as it was, or is refused by name."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import pyarrow as pa
import pytest

from dataaggregator.connector.source import ReadRequest
from dataaggregator.dataplane.job import JobSettings, RunOutcome
from dataaggregator.dataplane.opening import Opening
from dataaggregator_connectors.postgres import CONNECTOR
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.source import PostgresSource

from .conftest import Bench
from .values_of_postgres import OBJECTS, REFUSED, VALUES

Values = Mapping[str, Sequence[str]]
SOURCE = {"t": {"connector": "pg", "stream": "public.t"}}
STEPS = [{"name": "same", "inputs": ["t"], "steps": [{"filter": "id >= 0"}]}]
# A new table has PostgreSQL's own type below a domain.
BELOW = {"positive": "integer", "word": "character varying(5)", "deep": "integer"}
BEYOND_ARROW = ("numeric(100,50)", "numeric(3,-2)")
OF_ITS_OWN = {"mood", "pair", "moods", "paired", "mood[]", "pair[]", "positive[]", "tsquery", *BELOW}
"""Not carried undecoded."""


BECOMES_ITS_KIND = ("numeric(100,50)", "numeric(20,2)")
"""A column that loses nothing by it is made one of that kind before the load."""


async def prepare(bench: Bench, db: asyncpg.Connection, url: str) -> None:
    """A database with types of its own and a schema to write to, and a folder, each behind a connector."""
    await db.execute(f"SET extra_float_digits = 1; CREATE SCHEMA out; {OBJECTS}")
    bench.connector("pg", "postgres", {"url": url})
    bench.connector("lake", "files", {"root": bench.folder.as_uri()})


@pytest.fixture
async def db(db: asyncpg.Connection, bench: Bench, empty_database_url: str) -> asyncpg.Connection:
    await prepare(bench, db, empty_database_url)
    return db


def to(taken: str = "t") -> dict[str, Any]:
    return {"connector": "pg", "input": taken, "stream": "out.t", "write": "append"}


def literal(value: str, type_: str) -> str:
    return f"'{value.replace(chr(39), 2 * chr(39))}'::{type_}"


async def fill(db: asyncpg.Connection, values: Values) -> None:
    """A column a type, named as it is; a row for each of the most values, and one of NULLs."""
    columns = ", ".join(f"{quoted(type_)} {type_}" for type_ in values)
    await db.execute(f"CREATE TABLE t (id bigint PRIMARY KEY, {columns})")
    for row in range(max(len(held) for held in values.values()) + 1):
        cells = [literal(held[row], type_) if row < len(held) else "NULL" for type_, held in values.items()]
        await db.execute(f"INSERT INTO t VALUES ({row}, {', '.join(cells)})")


def quoted(type_: str) -> str:
    return '"' + type_.replace('"', '""') + '"'


async def changed(db: asyncpg.Connection, values: Values) -> list[tuple[str, str, str]]:
    """Every value that is not as it was, and every row too many or too few."""
    found = []
    for type_ in values:
        name = quoted(type_)
        shown = f"{name}::text" if not type_.startswith("numeric") or "(" in type_ else by_value(name, type_)
        sql = f"""SELECT here.v, there.v FROM (SELECT id, {shown} AS v FROM t) here
            FULL JOIN (SELECT id, {shown} AS v FROM out.t) there USING (id)
            WHERE here IS NULL OR there IS NULL OR here.v IS DISTINCT FROM there.v"""
        found += [(type_, str(row[0])[:80], str(row[1])[:80]) for row in await db.fetch(sql)]
    return found


def by_value(name: str, type_: str) -> str:
    """A numeric without bounds says how many zeros end it; decoded it is the same number with others."""
    return (
        f"ARRAY(SELECT trim_scale(n) FROM unnest({name}) n)::text"
        if type_.endswith("[]")
        else f"trim_scale({name})::text"
    )


async def declared(db: asyncpg.Connection, table: str) -> dict[str, str]:
    sql = """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = $1::regclass AND attnum > 1"""
    return {row[0]: row[1] for row in await db.fetch(sql, table)}


def arrived(outcome: RunOutcome) -> None:
    assert outcome.error is None, outcome.error
    assert (outcome.status, outcome.ledger.violations) == ("succeeded", ())


async def test_all_that_postgresql_has_passes_undecoded(bench: Bench, db: asyncpg.Connection) -> None:
    """With it the values that have no Arrow counterpart: were the rows decoded, these would be refused."""
    own = {type_: (*held, *REFUSED.get(type_, ())) for type_, held in VALUES.items() if type_ not in OF_ITS_OWN}
    await fill(db, own)
    arrived(await bench.run(bench.job(SOURCE, [to()])))
    assert await changed(db, own) == []
    assert await declared(db, "out.t") == await declared(db, "t")


@pytest.mark.parametrize("steps", [[], STEPS], ids=["straight", "steps"])
async def test_every_value_of_every_type_passes_decoded(
    bench: Bench, db: asyncpg.Connection, steps: list[dict[str, Any]]
) -> None:
    await fill(db, VALUES)
    arrived(await bench.run(bench.job(SOURCE, [to("same" if steps else "t")], steps)))
    assert await changed(db, VALUES) == []
    assert await declared(db, "out.t") == await declared(db, "t") | BELOW


async def test_every_value_of_every_type_passes_through_a_file(bench: Bench, db: asyncpg.Connection) -> None:
    await fill(db, VALUES)
    arrived(await bench.run(bench.job(SOURCE, [to() | {"connector": "lake", "stream": "t.parquet"}])))
    await db.execute("CREATE TABLE out.t (LIKE t)")
    arrived(await bench.run(bench.job({"t": {"connector": "lake", "stream": "t.parquet"}}, [to()])))
    assert await changed(db, VALUES) == []


@pytest.mark.parametrize(("type_", "value"), [(type_, value) for type_, held in REFUSED.items() for value in held])
async def test_a_value_that_cannot_be_decoded_is_refused_with_its_column(
    bench: Bench, db: asyncpg.Connection, type_: str, value: str
) -> None:
    await fill(db, {type_: (VALUES[type_][0], value)})
    outcome = await bench.run(bench.job(SOURCE, [to("same")], STEPS))
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "value-not-representable")
    assert f"Column {type_} ({type_})" in outcome.error.detail
    assert await db.fetchval("SELECT count(*) FROM out.t") == 0


@pytest.mark.parametrize("type_", BEYOND_ARROW)
@pytest.mark.parametrize("other", ["numeric(20,2)", "numeric"])
async def test_a_numeric_beyond_arrow_goes_into_its_own_kind_only(
    bench: Bench, db: asyncpg.Connection, type_: str, other: str
) -> None:
    await fill(db, {type_: VALUES[type_]})
    await db.execute(f"CREATE TABLE out.t (id bigint, {quoted(type_)} {other})")
    outcome = await bench.run(bench.job(SOURCE, [to("same")], STEPS))
    if (type_, other) == BECOMES_ITS_KIND:
        arrived(outcome)
        assert (await declared(db, "out.t"), await changed(db, {type_: VALUES[type_]})) == ({type_: type_}, [])
        return
    assert outcome.error is not None
    assert outcome.error.code == "column-incompatible"
    assert type_ in outcome.error.detail


async def test_a_computed_column_is_read_like_any_other_and_never_written(bench: Bench, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE t (id bigint PRIMARY KEY, twice bigint GENERATED ALWAYS AS (2 * id) STORED)")
    await db.execute("INSERT INTO t SELECT generate_series(1, 3)")
    arrived(await bench.run(bench.job(SOURCE, [to()])))
    assert [tuple(row) for row in await db.fetch("SELECT * FROM out.t ORDER BY id")] == [(1, 2), (2, 4), (3, 6)]
    await db.execute("DROP TABLE out.t; CREATE TABLE out.t (LIKE t INCLUDING GENERATED)")
    outcome = await bench.run(bench.job(SOURCE, [to()]))
    assert outcome.error is not None
    assert (outcome.error.code, "twice is computed by the table" in outcome.error.detail) == ("column-missing", True)


async def test_the_reference_tells_what_each_type_is_read_as(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    told = [(type_, row.arrow) for row in CONNECTOR.types for type_ in row.types]
    await db.execute(f"CREATE TABLE t ({', '.join(f'{quoted(type_)} {type_}' for type_, _ in told)})")
    context = Opening(JobSettings(egress_private=True), bench.folder, logging.getLogger()).context()
    source = PostgresSource(PostgresConfig.model_validate({"url": empty_database_url}), context)
    schema = await source.schema(ReadRequest(stream="public.t"))
    await source.close()
    found = [(field.name, "list" if pa.types.is_list(field.type) else str(field.type)) for field in schema]
    assert found == told


async def test_what_the_server_does_not_take_back_in_binary_form_arrives(bench: Bench, db: asyncpg.Connection) -> None:
    await fill(db, {"tsquery": VALUES["tsquery"]})
    arrived(await bench.run(bench.job(SOURCE, [to()])))
    assert await changed(db, {"tsquery": VALUES["tsquery"]}) == []
