"""postgres, looking: the steps of a load that follow at once look at a table once, and what has changed is seen."""

import asyncpg
import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadMode, ReadRequest
from dataaggregator.errors import PlatformError
from dataaggregator.ids import new_id
from dataaggregator_connectors.postgres import types
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination
from dataaggregator_connectors.postgres.source import PostgresSource
from dataaggregator_connectors.postgres.types import Looks

VIEW_THAT_WRITES = """
    CREATE TABLE seen (at timestamptz);
    CREATE FUNCTION note() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO seen VALUES (now()); SELECT 1';
    CREATE VIEW noting AS SELECT note() AS one"""


@pytest.fixture
def config(empty_database_url: str) -> PostgresConfig:
    return PostgresConfig.model_validate({"url": empty_database_url})


async def test_a_table_is_looked_at_once_in_a_moment_and_again_after_it(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE t (a int)")
    looks = Looks()
    monkeypatch.setattr(types, "MOMENT_SECONDS", 60.0)
    assert len((await looks.at(connection, "public.t")).columns) == 1
    await connection.execute("ALTER TABLE t ADD b int")
    assert len((await looks.at(connection, "public.t")).columns) == 1
    monkeypatch.setattr(types, "MOMENT_SECONDS", 0.0)
    assert len((await looks.at(connection, "public.t")).columns) == 2
    await connection.close()


async def test_a_table_that_the_load_has_made_is_looked_at_again(
    empty_database_url: str, config: PostgresConfig, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(types, "MOMENT_SECONDS", 60.0)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE t AS SELECT 1::bigint AS id")
    await connection.close()
    source, destination = PostgresSource(config, context), PostgresDestination(config, context)
    load = LoadRequest(run_id=new_id(), pipeline_id=new_id(), stream="public.u", write=WriteKind.APPEND, epoch=1)
    copy = await source.copy_binary(ReadRequest(stream="public.t", mode=ReadMode.FULL_REFRESH))
    assert await destination.prepare(load, pa.schema([("id", pa.int64())]))
    await destination.begin(load)
    assert await destination.accepts_binary(load, copy)
    assert await destination.write_binary(copy) == 1
    await destination.commit({})
    await destination.close()
    await source.close()


async def test_reading_a_view_changes_nothing_at_the_source(
    empty_database_url: str, config: PostgresConfig, context: Context
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(VIEW_THAT_WRITES)
    source = PostgresSource(config, context)
    copy = await source.copy_binary(ReadRequest(stream="public.noting", mode=ReadMode.FULL_REFRESH))
    with pytest.raises(PlatformError, match="read-only"):
        [chunk async for chunk in copy.chunks]
    assert await connection.fetchval("SELECT count(*) FROM seen") == 0
    await source.close()
    await connection.close()
