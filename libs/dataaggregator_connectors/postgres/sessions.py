"""Sessions of one source or destination: one for short errands, others for reads and loads, left open for the next job.

A session that was left is given only to who would log in with the very same configuration at the very same address,
and only after the server has put it back to how it was right after the log-in.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable

import asyncpg

from dataaggregator.connector.context import Context
from dataaggregator_connectors.postgres.config import PostgresConfig, Target, target
from dataaggregator_connectors.postgres.connection import (
    LOST,
    Connection,
    close,
    connect_to,
    translated,
)

ERRANDS = "dataaggregator"
AFRESH_SECONDS = 2.0
# What DISCARD ALL does, but for the statements that are prepared: those are ours.
AFRESH = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD TEMP; SET application_name = '{name}'; {settings}"
)


class Sessions:
    """`close` leaves what is idle to the next job, or ends it where nobody keeps anything."""

    def __init__(self, config: PostgresConfig, context: Context) -> None:
        self._to = target(config)
        # A role given with the connection would not come back with a reset.
        self._kept = (
            None if {"role", "session_authorization"} & {name.lower() for name in self._to.options} else context.kept
        )
        self._egress = context.egress
        self._idle: Connection | None = None
        self._keys: dict[Connection, Hashable] = {}
        self._tainted: set[Connection] = set()
        self._judged = _judged(self._to)

    async def open(self, name: str, **settings: str) -> Connection:
        """A session named so at the server, to be given back; `name` and `settings` are ours: plain words."""
        address = await self._egress.resolve(self._to.host, self._to.port)
        key = "postgres", address, self._judged
        connection = await self._left(key, name, settings)
        if connection is None:
            connection = await connect_to(self._to, address, name, **settings)
        self._keys[connection] = key
        return connection

    async def any(self) -> Connection:
        """The session of the errands while nobody is on one, else another; to be given back."""
        connection, self._idle = self._idle, None
        return await self.open(ERRANDS) if connection is None or connection.is_closed() else connection

    async def rest(self, connection: Connection) -> None:
        """Keep it for the errands to come if they have none, else give it back."""
        if self._idle is None and not connection.is_closed() and not connection.is_in_transaction():
            self._idle = connection
        else:
            await self.give_back(connection)

    async def give_back(self, connection: Connection) -> None:
        """The session has nothing under way any more; one that has, or ran what others wrote, is ended."""
        key = self._keys.pop(connection, None)
        whole = not connection.is_closed() and not connection.is_in_transaction()
        if key is None or self._kept is None or connection in self._tainted or not whole:
            await close(connection)
        else:
            self._kept.leave(key, connection, lambda: close(connection))

    def hang_up(self, connection: Connection) -> None:
        """End it at once, whatever it is at."""
        self._keys.pop(connection, None)
        connection.terminate()

    def taint(self, connection: Connection) -> None:
        """It ran somebody's own SQL, which may have left anything in it: nobody else gets it."""
        self._tainted.add(connection)

    @contextlib.asynccontextmanager
    async def errand(self) -> AsyncIterator[Connection]:
        """The session of short errands, the same one as long as none of them fails."""
        connection = await self.any()
        try:
            with translated(f"PostgreSQL at {self._to.host}"):
                yield connection
        except BaseException:
            self._keys.pop(connection, None)
            await close(connection)
            raise
        await self.rest(connection)

    async def close(self) -> None:
        connection, self._idle = self._idle, None
        if connection is not None:
            await self.give_back(connection)

    async def _left(self, key: Hashable, name: str, settings: dict[str, str]) -> "Connection | None":
        """One that was left and still answers; this is also where it is put back."""
        while self._kept is not None and (connection := self._kept.take(key)) is not None:
            words = AFRESH.format(name=name, settings="".join(f"SET {n} = '{v}';" for n, v in settings.items()))
            try:
                async with asyncio.timeout(AFRESH_SECONDS):
                    await connection.execute(words)
            except (asyncpg.PostgresError, asyncpg.InternalClientError, *LOST):  # it ended, or is about to
                connection.terminate()
                continue
            except BaseException:  # whoever wanted it was cancelled, and nobody else knows of it
                connection.terminate()
                raise
            return connection  # type: ignore[no-any-return]  # left by give_back
        return None


def _judged(to: Target) -> Hashable:
    """All that the server at an address judges: as whom, with which password, how secured, with which settings."""
    parts = {**vars(to), "options": tuple(sorted(to.options.items()))}
    return tuple(parts.values())
