"""postgres, looking: the steps of a load that follow at once look at a table once, and what has changed is seen."""

import asyncio

import asyncpg
import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadMode, ReadRequest
from dataaggregator.errors import PlatformError, Transient
from dataaggregator.ids import new_id
from dataaggregator_connectors.postgres import types
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination
from dataaggregator_connectors.postgres.source import PostgresSource
from dataaggregator_connectors.postgres.types import Looks
from tests.integration.bus.rig import eventually

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
    assert (await destination.prepare(load, pa.schema([("id", pa.int64())]))).changes
    await destination.begin(load)
    assert await destination.accepts_binary(load, copy)
    assert await destination.write_binary(copy) == 1
    await destination.commit({})
    await destination.close()
    await source.close()


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [(None, "CREATE TABLE u (id bigint)"), ("CREATE TABLE u (other int)", "ALTER TABLE u ADD id bigint")],
    ids=["made", "grown"],
)
async def test_a_table_that_another_load_has_just_changed_is_looked_at_again(
    empty_database_url: str,
    config: PostgresConfig,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: str | None,
    meanwhile: str,
) -> None:
    """Both came at the same moment: this one has looked, and waits for the other."""
    monkeypatch.setattr(types, "MOMENT_SECONDS", 60.0)
    other, destination = await asyncpg.connect(empty_database_url), PostgresDestination(config, context)
    if before is not None:
        await other.execute(before)
    load = LoadRequest(run_id=new_id(), pipeline_id=new_id(), stream="public.u", write=WriteKind.APPEND, epoch=1)
    rows = pa.record_batch({"id": [1]})
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('dataaggregator public.u', 0))")
        preparing = asyncio.create_task(destination.prepare(load, rows.schema))
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
        await eventually(lambda: other.fetchval(waiting))
        await other.execute(meanwhile)
    assert list((await preparing).changes) == []
    await destination.begin(load)
    await destination.write(rows)
    await destination.commit({})
    assert await other.fetchval("SELECT array_agg(id) FROM u") == [1]
    await destination.close()
    await other.close()


async def test_a_column_altered_between_look_and_copy_is_read_as_the_type_that_is_told_or_not_at_all(
    empty_database_url: str, config: PostgresConfig, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight bytes are eight bytes: without the cast a time would pass for a number."""
    monkeypatch.setattr(types, "MOMENT_SECONDS", 60.0)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE t AS SELECT 1::bigint AS id")
    source = PostgresSource(config, context)
    request = ReadRequest(stream="public.t", mode=ReadMode.FULL_REFRESH)
    await source.schema(request)
    await connection.execute("ALTER TABLE t ALTER id TYPE timestamptz USING to_timestamp(id)")
    copy = await source.copy_binary(request)
    assert copy.types == ("bigint",)
    with pytest.raises(PlatformError, match="cannot cast"):
        [chunk async for chunk in copy.chunks]
    await source.close()
    await connection.close()


@pytest.mark.parametrize("write", list(WriteKind))
async def test_a_table_altered_between_look_and_copy_costs_a_try_and_no_value(
    empty_database_url: str, config: PostgresConfig, context: Context, monkeypatch: pytest.MonkeyPatch, write: WriteKind
) -> None:
    monkeypatch.setattr(types, "MOMENT_SECONDS", 60.0)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE u (id bigint PRIMARY KEY, at timestamp)")
    destination = PostgresDestination(config, context)
    load = LoadRequest(run_id=new_id(), pipeline_id=new_id(), stream="public.u", write=write, epoch=1, key=("id",))
    rows = pa.record_batch({"id": [1], "at": pa.array([0], pa.timestamp("us"))})
    await destination.prepare(load, rows.schema)
    await connection.execute("ALTER TABLE u ALTER at TYPE bigint USING 0")
    await destination.begin(load)
    await destination.write(rows)
    with pytest.raises(Transient) as refused:
        await destination.commit({})
    assert refused.value.code == "destination-altered"
    await destination.rollback()
    assert await connection.fetchval("SELECT count(*) FROM u") == 0
    await destination.close()
    await connection.close()


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
