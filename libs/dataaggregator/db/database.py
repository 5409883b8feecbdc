"""The database: two pools, one a role, and the one door of transactions.

Nothing here waits for ever. A statement that takes too long is ended by the server; one whose answer does not come is
given up by the driver a little later, and its connection with it; the kernels of both sides look after silent ones.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, cast
from uuid import UUID

import asyncpg

from dataaggregator.db.commits import watched
from dataaggregator.db.connection import Connection, PooledConnection, keep, keep_alive, prepare
from dataaggregator.db.errors import connecting, translated
from dataaggregator.db.roles import ROLE_NAMES, Role
from dataaggregator.errors import Transient
from dataaggregator.settings import Settings
from dataaggregator.telemetry import logs, metrics

if TYPE_CHECKING:
    from asyncpg.pool import Pool, PoolConnectionProxy

log = logs.get("db")

ACQUIRE_SECONDS = 10.0
CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 10.0
UNDO_SECONDS = 2.0
"""How long a transaction that failed waits for the server to undo it; dropping its connection undoes it as well."""
STATES = ("idle", "used")
SOON = "SET LOCAL synchronous_commit = off"
"""For a transaction whose commit need not wait for the disk."""


class Database:
    """Made unopened. Every statement of a service goes through `transaction` or `platform`."""

    name = "postgres"

    def __init__(self, url: str, settings: Settings, service: str = "platform") -> None:
        self._url = url
        self._service = service
        self._idle_seconds = settings.db_idle_seconds
        self._silence_seconds = settings.db_silence_seconds
        self._statement_seconds: dict[Role, float] = {
            "workspace": settings.db_call_seconds,
            "platform": settings.db_loop_seconds,
        }
        most = settings.db_pool_size + settings.db_max_overflow
        self._most: dict[Role, int] = {"workspace": max(1, most * 2 // 3), "platform": max(1, most // 3)}
        self._pools: dict[Role, Pool[asyncpg.Record]] = {}

    async def open(self) -> None:
        """Open both pools; `database-unavailable` if that cannot be done now."""
        with connecting():
            for role, most in self._most.items():
                self._pools[role] = await asyncpg.create_pool(
                    self._url,
                    min_size=1,
                    max_size=most,
                    timeout=CONNECT_SECONDS,
                    command_timeout=self._statement_seconds[role] + self._silence_seconds,
                    init=self._prepare,
                    reset=keep,
                    connection_class=PooledConnection,
                    server_settings=self._server_settings(role),
                )
        for state in STATES:
            metrics.DB_POOL_CONNECTIONS.of(self._service, state).set_function(partial(self._count, state))

    async def close(self) -> None:
        """Close both pools, waiting for transactions under way, but not for a server that is silent."""
        pools = list(self._pools.values())
        self._pools.clear()
        await asyncio.gather(*(_close(pool) for pool in pools))

    async def ping(self) -> None:
        """One round trip."""
        async with self.glance() as connection:
            await connection.fetchval("SELECT 1")

    @asynccontextmanager
    async def transaction(self, workspace: UUID, *, durable: bool = True) -> AsyncIterator[Connection]:
        """A transaction that sees one workspace's rows only.

        Without `durable` its commit does not wait for the disk: for what is made durable by a later commit that
        depends on it, or is missed by nobody.
        """
        # A UUID's text is digits and dashes: it may stand in the statement, and saves a round trip there.
        settings = f"SET LOCAL dataaggregator.workspace = '{UUID(str(workspace))}'"
        async with self._begin("workspace", settings if durable else f"{settings};{SOON}") as tx:
            yield tx

    @asynccontextmanager
    async def rehearsal(self, workspace: UUID) -> AsyncIterator[Connection]:
        """The same, undone at its end: it shows what would be done, and leaves nothing behind."""
        with suppress(_UndoneError):
            async with self.transaction(workspace) as tx:
                yield tx
                raise _UndoneError

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[Connection]:
        """A transaction across workspaces: for loops, and for what happens before a workspace is known."""
        async with self._begin("platform") as tx:
            yield tx

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[Connection]:
        """For one statement across workspaces: alone it is a transaction by itself, and saves the words around one."""
        pool = self._pool("platform")
        connection = await self._acquire(pool)
        try:
            with translated():
                yield connection
        finally:
            with translated():
                await pool.release(connection)

    async def connect(self, role: Role) -> Connection:
        """A connection of its own (heartbeat, relay); the caller closes it. No statement on it may take long."""
        with connecting():
            connection = await asyncpg.connect(
                self._url,
                timeout=CONNECT_SECONDS,
                command_timeout=self._silence_seconds,
                server_settings=self._server_settings(role),
                connection_class=PooledConnection,
            )
            await self._prepare(connection)
        return connection

    async def listen(self, channel: str, heard: Callable[[object], None]) -> None:
        """Call `heard` with what each NOTIFY says, and once it listens with None: what was said before is missed.

        Raises Transient as soon as the connection is lost or silent.
        """
        connection = await self.connect("platform")
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            with translated():
                await connection.add_listener(channel, lambda _connection, _pid, _channel, said: heard(said))
                heard(None)
                while True:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(lost.wait(), self._silence_seconds / 2)
                    await connection.fetchval("SELECT 1")
        finally:
            connection.terminate()

    def connections(self) -> dict[str, int]:
        """Connections of both pools by state."""
        pools = self._pools.values()
        idle = sum(pool.get_idle_size() for pool in pools)
        return {"idle": idle, "used": sum(pool.get_size() for pool in pools) - idle}

    def _count(self, state: str) -> float:
        return self.connections()[state]

    @asynccontextmanager
    async def _begin(self, role: Role, settings: str = "") -> AsyncIterator[Connection]:
        pool = self._pool(role)  # kept: the connection goes back to it also while the database is being closed
        connection = await self._acquire(pool)
        try:
            with translated():
                with watched(connection) as callbacks, _undone_in_time(connection) as failed:
                    async with cast("PooledConnection", connection).begin(settings):
                        try:
                            yield connection
                        except BaseException as error:
                            failed(error)
                            raise
                for callback in callbacks:
                    callback()
        finally:
            await _give_back(pool, connection)

    def _pool(self, role: Role) -> "Pool[asyncpg.Record]":
        if role not in self._pools:
            raise Transient("database-unavailable", "The database is not open.")
        return self._pools[role]

    async def _acquire(self, pool: "Pool[asyncpg.Record]") -> "PoolConnectionProxy[asyncpg.Record]":
        begun = time.perf_counter()
        try:
            with connecting():
                return await pool.acquire(timeout=ACQUIRE_SECONDS)
        finally:
            metrics.DB_POOL_WAIT.observe(time.perf_counter() - begun)

    async def _prepare(self, connection: Connection) -> None:
        keep_alive(connection, self._silence_seconds)
        await prepare(connection)

    def _server_settings(self, role: Role) -> dict[str, str]:
        each = max(1, round(self._silence_seconds / 4))
        return {
            "role": ROLE_NAMES[role],
            "application_name": f"dataaggregator-{self._service}-{role}",
            "jit": "off",  # our statements are short, compiling them costs more than they take
            "statement_timeout": _milliseconds(self._statement_seconds[role]),
            "idle_in_transaction_session_timeout": _milliseconds(self._idle_seconds),
            # The locks of a client that vanished without a word go with its connection.
            "tcp_keepalives_idle": str(2 * each),
            "tcp_keepalives_interval": str(each),
            "tcp_keepalives_count": "2",
            "tcp_user_timeout": _milliseconds(self._silence_seconds),
        }


class _UndoneError(Exception):
    """Undoes a transaction in which nothing has failed."""


@contextmanager
def _undone_in_time(connection: Connection) -> Iterator[Callable[[BaseException], None]]:
    """Gives what to call when a transaction fails: a server that is silent then is not asked to undo it for long.

    Why it failed is raised, whatever undoing it says: a loop that was cancelled must hear of that and nothing else.
    """
    causes: list[BaseException] = []
    timers: list[asyncio.TimerHandle] = []

    def failed(cause: BaseException) -> None:
        causes.append(cause)
        if isinstance(cause, TimeoutError):
            connection.terminate()
        else:
            timers.append(asyncio.get_running_loop().call_later(UNDO_SECONDS, connection.terminate))

    try:
        yield failed
    except BaseException as error:
        if isinstance(error, TimeoutError):  # of the commit
            connection.terminate()
        if causes:
            raise causes[0] from None
        raise
    finally:
        for timer in timers:
            timer.cancel()


async def _close(pool: "Pool[asyncpg.Record]") -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(pool.close(), CLOSE_SECONDS)  # given up, it drops what is still open


async def _give_back(pool: "Pool[asyncpg.Record]", connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
    """A connection that cannot go back is dropped by the pool; what was committed on it is committed all the same."""
    try:
        await pool.release(connection)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        log.info("connection_dropped", reason=type(error).__name__)


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))
