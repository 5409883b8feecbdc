"""A database that says nothing any more: nobody waits for it for ever, and all goes on when it speaks again."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from dataaggregator.bus.emit import emit
from dataaggregator.bus.relay import Relay
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.pipeline import PipelinePaused
from dataaggregator.db import Database
from dataaggregator.db import database as module
from dataaggregator.errors import Transient
from dataaggregator.settings import Settings
from services.executor.wake import Waker
from tests.faults.proxy import Proxy, Side
from tests.integration.control import until

SOON_SECONDS = 8.0
"""The limits below and what a busy machine adds; without limits each of these tests would wait for ever."""


@pytest.fixture
def hasty(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for limit in ("CONNECT_SECONDS", "CLOSE_SECONDS", "UNDO_SECONDS"):
        monkeypatch.setattr(module, limit, 1.0)
    limits = {"db_call_seconds": 1.0, "db_loop_seconds": 1.0, "db_idle_seconds": 1.0, "db_silence_seconds": 1.0}
    return settings.model_copy(update=limits)


def _by(proxy: Proxy, url: str) -> str:
    """The same database, by way of the proxy."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"))


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(urlsplit(database_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def far(proxy: Proxy, hasty: Settings, database_url: str) -> AsyncIterator[Database]:
    """The database, behind the proxy."""
    database = Database(_by(proxy, database_url), hasty)
    await database.open()
    yield database
    await database.close()


async def test_a_call_gets_an_error_and_the_next_one_an_answer(far: Database, proxy: Proxy) -> None:
    await far.ping()
    proxy.half_open(Side.SERVER)
    async with asyncio.timeout(SOON_SECONDS):
        with pytest.raises(Transient, match="no answer in time"):
            async with far.transaction(uuid4()) as tx:
                await tx.fetchval("SELECT 1")
        with pytest.raises(Transient):
            await far.ping()
        await far.ping()


async def test_silence_in_the_middle_of_a_transaction_ends_it(far: Database, proxy: Proxy) -> None:
    async def call() -> None:
        async with far.platform() as tx:
            await tx.fetchval("SELECT 1")
            proxy.half_open(Side.SERVER)
            await tx.fetchval("SELECT 2")

    async with asyncio.timeout(SOON_SECONDS):
        with pytest.raises(Transient, match="database-unavailable"):
            await call()


async def test_a_commit_without_an_answer_is_a_transient_error(far: Database, proxy: Proxy) -> None:
    async def call() -> None:
        async with far.platform() as tx:
            await tx.fetchval("SELECT 1")
            proxy.half_open(Side.SERVER)

    async with asyncio.timeout(SOON_SECONDS):
        with pytest.raises(Transient, match="database-unavailable"):
            await call()


async def test_who_is_cancelled_does_not_wait_for_the_silent(hasty: Settings, proxy: Proxy, database_url: str) -> None:
    patient = Database(_by(proxy, database_url), hasty.model_copy(update={"db_loop_seconds": 600.0}))
    await patient.open()

    async def call() -> None:
        async with patient.platform() as tx:
            await tx.fetchval("SELECT pg_sleep(300)")

    owner = await asyncpg.connect(database_url)

    async def asked() -> bool:
        statement = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        return await owner.fetchval(statement) is not None

    task = asyncio.create_task(call())
    await until(asked, "the statement to be at work")
    await owner.close()
    proxy.half_open(Side.SERVER)
    task.cancel()
    async with asyncio.timeout(SOON_SECONDS):
        await asyncio.wait([task])
    assert task.cancelled()  # a loop that took this for a fault of the database would go on
    async with asyncio.timeout(SOON_SECONDS):
        await patient.close()


async def test_closing_does_not_wait_for_ever_for_a_transaction_under_way(hasty: Settings, database_url: str) -> None:
    database = Database(database_url, hasty.model_copy(update={"db_idle_seconds": 600.0}))
    await database.open()
    begun = asyncio.Event()

    async def linger() -> None:
        async with database.platform():
            begun.set()
            await asyncio.Event().wait()

    lingering = asyncio.create_task(linger())
    await begun.wait()
    async with asyncio.timeout(SOON_SECONDS):
        await database.close()
    lingering.cancel()
    await asyncio.wait([lingering])


async def test_a_new_connection_is_not_waited_for_long(proxy: Proxy, hasty: Settings, database_url: str) -> None:
    proxy.black_hole()
    database = Database(_by(proxy, database_url), hasty)
    async with asyncio.timeout(SOON_SECONDS):
        with pytest.raises(Transient, match="database-unavailable"):
            await database.open()


async def test_a_half_open_connection_that_listens_is_noticed_and_made_anew(far: Database, proxy: Proxy) -> None:
    waker = Waker(far)
    loop = asyncio.create_task(waker.run())
    try:
        await waker.signal.wait(SOON_SECONDS)
        waker.signal.clear()
        proxy.half_open(Side.SERVER)
        async with asyncio.timeout(SOON_SECONDS):
            await waker.signal.wait(2 * SOON_SECONDS)  # it listens again, by another connection
    finally:
        loop.cancel()


async def test_the_relay_goes_on_after_a_silence(far: Database, proxy: Proxy, database: Database) -> None:
    published: list[Event] = []
    came = asyncio.Event()

    async def publish(events: list[Event]) -> set[object]:
        published.extend(events)
        came.set()
        return {event.id for event in events}

    workspace = uuid4()

    async def say() -> None:
        async with database.transaction(workspace) as tx:
            message = PipelinePaused(pipeline_id=uuid4(), name="p")
            subject = message.pipeline_id
            await emit(tx, "scheduler", message, subject=subject, workspace=workspace, source="scheduler")

    relay = asyncio.create_task(Relay(far, "scheduler", publish, 0.2).run())  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(SOON_SECONDS):
            await say()
            await came.wait()
            came.clear()
            proxy.half_open(Side.SERVER)
            await say()
            await came.wait()
    finally:
        relay.cancel()
    assert len({event.id for event in published}) == 2


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(far: Database) -> None:
    with pytest.raises(Transient, match="database-busy"):
        async with far.transaction(uuid4()) as tx:
            await tx.execute("SELECT pg_sleep(60)")


async def test_the_locks_of_a_transaction_that_says_nothing_go(
    database_url: str, hasty: Settings, database: Database
) -> None:
    """A stopped process holds none for ever."""
    stopped = Database(database_url, hasty)
    connection = await stopped.connect("platform")
    try:
        await connection.execute("BEGIN")
        await connection.execute("SELECT pg_advisory_xact_lock(77)")
        async with asyncio.timeout(SOON_SECONDS), database.platform() as tx:
            await tx.execute("SELECT pg_advisory_xact_lock(77)")
    finally:
        connection.terminate()


async def test_what_was_committed_is_told_as_done_though_the_connection_is_lost_then(
    far: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncpg.Pool.release

    async def lost(pool: Any, connection: Any) -> None:
        proxy.half_open(Side.SERVER)
        await release(pool, connection, timeout=0.5)

    monkeypatch.setattr(asyncpg.Pool, "release", lost)
    async with far.platform() as tx:
        await tx.fetchval("SELECT 1")


@pytest.mark.parametrize("role", ["workspace", "platform"])
async def test_both_kernels_look_after_each_connection(hasty: Settings, database_url: str, role: str) -> None:
    database = Database(database_url, hasty)
    connection = await database.connect("workspace" if role == "workspace" else "platform")
    try:
        assert await connection.fetchval("SHOW tcp_user_timeout") == "1000"
        assert await connection.fetchval("SHOW tcp_keepalives_idle") == "2"
        sock = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000
    finally:
        await connection.close()
