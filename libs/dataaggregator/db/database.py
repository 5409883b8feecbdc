"""The database: two pools, one a role, and the one door of transactions."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast
from uuid import UUID

import asyncpg

from dataaggregator.db.commits import watched
from dataaggregator.db.connection import Connection, PooledConnection, keep, prepare
from dataaggregator.db.errors import connecting, translated
from dataaggregator.db.roles import ROLE_NAMES, Role
from dataaggregator.errors import Transient
from dataaggregator.settings import Settings
from dataaggregator.telemetry import metrics

if TYPE_CHECKING:
    from asyncpg.pool import Pool, PoolConnectionProxy

ACQUIRE_SECONDS = 10.0
CONNECT_SECONDS = 10.0
STATES = ("idle", "used")


class Database:
    """Made unopened. Every statement of a service goes through `transaction` or `platform`."""

    name = "postgres"

    def __init__(self, url: str, settings: Settings, service: str = "platform") -> None:
        self._url = url
        self._service = service
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
                    init=prepare,
                    reset=keep,
                    connection_class=PooledConnection,
                    server_settings=self._server_settings(role),
                )
        for state in STATES:
            metrics.DB_POOL_CONNECTIONS.of(self._service, state).set_function(partial(self._count, state))

    async def close(self) -> None:
        """Close both pools, waiting for transactions under way."""
        while self._pools:
            _, pool = self._pools.popitem()
            await pool.close()

    async def ping(self) -> None:
        """One round trip."""
        async with self.platform() as tx:
            await tx.fetchval("SELECT 1")

    @asynccontextmanager
    async def transaction(self, workspace: UUID) -> AsyncIterator[Connection]:
        """A transaction that sees one workspace's rows only."""
        # A UUID's text is digits and dashes: it may stand in the statement, and saves a round trip there.
        async with self._begin("workspace", f"SET LOCAL dataaggregator.workspace = '{UUID(str(workspace))}'") as tx:
            yield tx

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[Connection]:
        """A transaction across workspaces: for loops, and for what happens before a workspace is known."""
        async with self._begin("platform") as tx:
            yield tx

    async def connect(self, role: Role) -> Connection:
        """A connection of its own (heartbeat, LISTEN); the caller closes it."""
        with connecting():
            connection = await asyncpg.connect(
                self._url, timeout=CONNECT_SECONDS, server_settings=self._server_settings(role)
            )
        await prepare(connection)
        return connection

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
                with watched(connection) as callbacks:
                    async with cast("PooledConnection", connection).begin(settings):
                        yield connection
                for callback in callbacks:
                    callback()
        finally:
            with translated():
                await pool.release(connection)

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

    def _server_settings(self, role: Role) -> dict[str, str]:
        # jit: our statements are short, compiling them costs more than they take.
        return {"role": ROLE_NAMES[role], "application_name": f"dataaggregator-{self._service}-{role}", "jit": "off"}
