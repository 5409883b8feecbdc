"""postgres, sessions: left open for the next job of the same workspace, and to that one like new."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.kept import Kept
from dataaggregator.connector.source import ReadMode, ReadRequest
from dataaggregator.errors import Denied
from dataaggregator.ids import new_id
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination
from dataaggregator_connectors.postgres.sessions import Sessions
from dataaggregator_connectors.postgres.source import PostgresSource

ROWS = pa.table({"id": [1, 2, 3], "name": ["a", "b", None]})


@pytest.fixture
async def keeping(context: Context) -> AsyncIterator[Context]:
    """The context of one job after the other in one run process."""
    kept = Kept()
    yield replace(context, kept=kept)
    await kept.close()


@pytest.fixture
def config(empty_database_url: str) -> PostgresConfig:
    return PostgresConfig.model_validate({"url": empty_database_url})


@pytest.fixture
async def db(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


async def test_the_next_load_goes_on_over_the_sessions_of_the_one_before(
    config: PostgresConfig, keeping: Context, db: asyncpg.Connection
) -> None:
    await _load(config, keeping)
    before = await _sessions(db)
    await _load(config, keeping)
    assert await _sessions(db) == before
    assert len(before) == 2
    assert await db.fetchval("SELECT count(*) FROM public.t") == 6


async def test_without_a_keeper_nothing_stays_open(
    config: PostgresConfig, context: Context, db: asyncpg.Connection
) -> None:
    await _load(config, context)
    await _until_there_are(0, db)


async def test_the_receipt_is_read_back_over_another_session_than_the_loads(
    config: PostgresConfig, keeping: Context, db: asyncpg.Connection
) -> None:
    for _ in range(2):
        await _load(config, keeping)
        rows = await db.fetch(
            "SELECT pid, query, application_name FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        loads = {row["pid"] for row in rows if row["application_name"].startswith("da:")}
        reads = {row["pid"] for row in rows if "FROM _dataaggregator.loads WHERE" in row["query"]}
        assert len(loads) == len(reads) == 1
        assert not loads & reads


async def test_a_session_is_given_only_to_who_would_log_in_the_same_way(
    config: PostgresConfig, keeping: Context, empty_database_url: str
) -> None:
    sessions = Sessions(config, keeping)
    left = await sessions.open("dataaggregator")
    await sessions.give_back(left)
    parts = urlsplit(empty_database_url)
    wrong = parts._replace(netloc=f"{parts.username}:not-the-password@{parts.hostname}:{parts.port}")
    with pytest.raises(Denied):
        await Sessions(PostgresConfig.model_validate({"url": urlunsplit(wrong)}), keeping).open("dataaggregator")
    other = Sessions(config.model_copy(update={"options": {"search_path": "elsewhere"}}), keeping)
    connection = await other.open("dataaggregator")
    assert connection is not left
    assert await connection.fetchval("SHOW search_path") == "elsewhere"
    await other.give_back(connection)
    again = await sessions.open("dataaggregator")
    assert again is left
    await sessions.give_back(again)


async def test_a_session_comes_back_as_it_was_after_the_log_in(config: PostgresConfig, keeping: Context) -> None:
    sessions = Sessions(config, keeping)
    left = await sessions.open("dataaggregator")
    await left.execute(
        "SET search_path = elsewhere; SET statement_timeout = '17s'; SET ROLE pg_monitor; SET \"my.secret\" = 'x'; "
        "SELECT pg_advisory_lock(1)"
    )
    await left.execute("RESET ROLE; CREATE TEMP TABLE mine (a int); SET ROLE pg_monitor")
    await sessions.give_back(left)
    again = await sessions.open("another name", lock_timeout="2s")
    assert again is left
    assert await again.fetchval("SELECT current_user = session_user")
    assert await again.fetchval("SHOW search_path") != "elsewhere"
    assert await again.fetchval("SHOW statement_timeout") != "17s"
    assert await again.fetchval("SELECT current_setting('my.secret', true)") in (None, "")
    assert await again.fetchval("SELECT to_regclass('pg_temp.mine')") is None
    assert (
        await again.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        == 0
    )
    assert await again.fetchval("SHOW application_name") == "another name"
    assert await again.fetchval("SHOW lock_timeout") == "2s"
    assert await again.fetchval("SHOW timezone") == "UTC"
    await sessions.give_back(again)


async def test_a_session_in_the_middle_of_something_is_ended(
    config: PostgresConfig, keeping: Context, db: asyncpg.Connection
) -> None:
    sessions = Sessions(config, keeping)
    connection = await sessions.open("dataaggregator")
    await connection.execute("BEGIN")
    await sessions.give_back(connection)
    await _until_there_are(0, db)


async def test_a_session_that_is_put_back_as_its_taker_is_cancelled_is_ended(
    config: PostgresConfig, keeping: Context, db: asyncpg.Connection
) -> None:
    sessions = Sessions(config, keeping)
    left = await sessions.open("dataaggregator")
    server = left.get_server_pid()
    await sessions.give_back(left)
    os.kill(server, signal.SIGSTOP)
    try:
        taking = asyncio.create_task(sessions.open("dataaggregator"))
        await asyncio.wait([taking], timeout=0.2)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
    finally:
        os.kill(server, signal.SIGCONT)
    assert left.is_closed()
    await _until_there_are(0, db)


@pytest.mark.parametrize("undecoded", [True, False])
async def test_a_session_that_ran_somebodys_own_query_is_ended(
    config: PostgresConfig, keeping: Context, db: asyncpg.Connection, undecoded: bool
) -> None:
    source = PostgresSource(config, keeping)
    request = ReadRequest(query="SELECT 1 AS one", mode=ReadMode.FULL_REFRESH)
    if undecoded:
        copy = await source.copy_binary(request)
        assert [chunk async for chunk in copy.chunks]
    else:
        assert (await source.schema(request)).names == ["one"]
    await source.close()
    await _until_there_are(0, db)


async def test_a_reader_that_leaves_in_the_middle_of_a_copy_waits_for_nothing(
    config: PostgresConfig, context: Context, db: asyncpg.Connection
) -> None:
    source = PostgresSource(config, context)
    query = "SELECT repeat('x', 10000) AS x FROM generate_series(1, 5000)"
    copy = await source.copy_binary(ReadRequest(query=query, mode=ReadMode.FULL_REFRESH))
    chunks = aiter(copy.chunks)
    await anext(chunks)
    await asyncio.sleep(0.5)  # by now as much is read ahead as may be
    async with asyncio.timeout(5):
        await chunks.aclose()  # type: ignore[attr-defined]
    await source.close()
    await _until_there_are(0, db)


async def test_a_session_that_died_meanwhile_is_replaced_without_a_word(
    config: PostgresConfig, keeping: Context, db: asyncpg.Connection
) -> None:
    await _load(config, keeping)
    await db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await _load(config, keeping)
    assert await db.fetchval("SELECT count(*) FROM public.t") == 6


async def test_what_nobody_takes_is_closed(config: PostgresConfig, context: Context, db: asyncpg.Connection) -> None:
    await _load(config, replace(context, kept=Kept(idle_seconds=0.01)))
    await _until_there_are(0, db)


async def test_of_too_many_the_one_longest_unused_is_closed(
    config: PostgresConfig, context: Context, db: asyncpg.Connection
) -> None:
    kept = Kept(most=1)
    sessions = Sessions(config, replace(context, kept=kept))
    opened = [await sessions.open("dataaggregator") for _ in range(3)]
    for connection in opened:
        await sessions.give_back(connection)
    await _until_there_are(1, db)
    again = await sessions.open("dataaggregator")
    assert again is opened[-1]
    await sessions.give_back(again)
    await kept.close()
    await _until_there_are(0, db)


async def test_a_load_that_was_rolled_back_holds_nothing(config: PostgresConfig, keeping: Context) -> None:
    load = _request()
    destination = PostgresDestination(config, keeping)
    await destination.prepare(load, ROWS.schema)
    await destination.begin(load)
    await destination.rollback()
    other = PostgresDestination(config, replace(keeping, kept=None))
    async with asyncio.timeout(5):
        await other.begin(load)
    await other.close()
    await destination.close()


def _request() -> LoadRequest:
    return LoadRequest(run_id=new_id(), pipeline_id=new_id(), stream="public.t", write=WriteKind.APPEND, epoch=1)


async def _load(config: PostgresConfig, context: Context) -> None:
    load, destination = _request(), PostgresDestination(config, context)
    await destination.prepare(load, ROWS.schema)
    await destination.begin(load)
    for batch in ROWS.to_batches():
        await destination.write(batch)
    receipt = await destination.commit({})
    again = await destination.read_back(load)
    assert again is not None
    assert (again.rows, again.checksum) == (receipt.rows, receipt.checksum)
    await destination.close()


async def _sessions(db: asyncpg.Connection) -> set[int]:
    rows = await db.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )
    return {row["pid"] for row in rows}


async def _until_there_are(count: int, db: asyncpg.Connection) -> None:
    async with asyncio.timeout(10):
        while len(await _sessions(db)) != count:  # noqa: ASYNC110 - it happens at the server
            await asyncio.sleep(0.01)
