"""postgres: what means something in one database only is read as what it means, and never written as what it was."""

import asyncpg
import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.errors import Invalid
from dataaggregator.ids import new_id
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination
from dataaggregator_connectors.postgres.source import PostgresSource
from dataaggregator_connectors.postgres.types import NOT_PORTABLE

# Type → value, the type of a new column for it, and what that holds.
CARRIED = {
    "regclass": ("'own.things'::regclass", "text", "own.things"),
    "regcollation": ("'\"C\"'::regcollation", "text", '"C"'),
    "regconfig": ("'english'::regconfig", "text", "english"),
    "regdictionary": ("'simple'::regdictionary", "text", "simple"),
    "regnamespace": ("'own'::regnamespace", "text", "own"),
    "regoper": ("'pg_catalog.||/'::regoper", "text", "||/"),
    "regoperator": ("'+(integer,integer)'::regoperator", "text", "+(integer,integer)"),
    "regproc": ("'own.twice'::regproc", "text", "own.twice"),
    "regprocedure": ("'own.twice(integer)'::regprocedure", "text", "own.twice(integer)"),
    "regrole": ("'pg_monitor'::regrole", "text", "pg_monitor"),
    "regtype": ("'own.mood'::regtype", "text", "own.mood"),
    "regtype[]": ("ARRAY['int4'::regtype, NULL]", "text", "{integer,NULL}"),
    "money": ("'-92233720368547758.08'::money", "numeric", "-92233720368547758.080000000000000000"),
    "amount": ("'12.30'::money", "numeric", "12.300000000000000000"),
    "money[]": ("ARRAY['1.50'::money]", "text", "{$1.50}"),
}
OBJECTS = """
    CREATE SCHEMA own; CREATE TABLE own.things (); CREATE TYPE own.mood AS ENUM ('glad'); CREATE DOMAIN amount AS money;
    CREATE FUNCTION own.twice(integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * $1'"""
REQUEST = ReadRequest(stream="public.seeded")


def test_every_type_that_means_something_in_one_database_is_tried() -> None:
    assert CARRIED.keys() >= NOT_PORTABLE


async def prepared(url: str, type_: str) -> asyncpg.Connection:
    db = await asyncpg.connect(url, statement_cache_size=0)
    await db.execute("SET lc_monetary = 'C'")
    await db.execute(f"{OBJECTS}; CREATE TABLE seeded (odd {type_})")
    await db.execute(f"INSERT INTO seeded VALUES ({CARRIED[type_][0]}), (NULL)")
    return db


@pytest.mark.parametrize("type_", CARRIED)
async def test_it_is_read_as_what_it_means_into_a_new_table(
    empty_database_url: str, context: Context, type_: str
) -> None:
    _, declared, there = CARRIED[type_]
    db = await prepared(empty_database_url, type_)
    config = PostgresConfig.model_validate({"url": empty_database_url})
    origin, held = PostgresSource(config, context), PostgresDestination(config, context)
    request = LoadRequest(new_id(), new_id(), "public.held", WriteKind.APPEND, 1)
    await held.prepare(request, await origin.schema(REQUEST))
    copy = await origin.copy_binary(REQUEST)
    assert not await held.accepts_binary(request, copy)
    await held.begin(request)
    async for batch in origin.read(REQUEST):
        await held.write(batch.rows)
    await held.commit({})
    rows = await db.fetch("SELECT odd::text, pg_typeof(odd)::text FROM held ORDER BY odd")
    assert [tuple(row) for row in rows] == [(there, declared), (None, declared)]
    await origin.close()
    await held.close()
    await db.close()


@pytest.mark.parametrize("type_", CARRIED)
async def test_a_column_of_it_is_refused_before_a_row_is_read(
    empty_database_url: str, context: Context, type_: str
) -> None:
    """Neither as the bytes another database has for it, nor as a text that this one would read in its own way."""
    db = await prepared(empty_database_url, type_)
    await db.execute(f"CREATE TABLE held (odd {type_})")
    config = PostgresConfig.model_validate({"url": empty_database_url})
    origin, held = PostgresSource(config, context), PostgresDestination(config, context)
    request = LoadRequest(new_id(), new_id(), "public.held", WriteKind.APPEND, 1)
    assert not await held.accepts_binary(request, await origin.copy_binary(REQUEST))
    text = pa.schema([pa.field("odd", pa.string())])
    for schema in (await origin.schema(REQUEST), text):
        with pytest.raises(Invalid, match=r"\bodd\b.*in its own database only") as caught:
            await held.prepare(request, schema)
        assert caught.value.code == "column-incompatible"
    await origin.close()
    await held.close()
    await db.close()
