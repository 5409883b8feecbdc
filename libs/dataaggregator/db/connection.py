"""The database: the one typed door to the driver's connections; jsonb goes in and out as Python values."""

import socket
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import orjson
from asyncpg.transaction import Transaction, TransactionState

from dataaggregator.db.arrays import known

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
else:
    Connection = asyncpg.Connection


# OIDs of pg_type.dat, the same on every PostgreSQL.
_JSON = {"json": 114, "jsonb": 3802}


class PooledConnection(asyncpg.Connection):
    """The driver's connection, whose transactions can begin with settings of their own in the same round trip, and
    which knows the arrays that are sent over it, and JSON."""

    def begin(self, settings: str = "") -> Transaction:
        """A transaction to be entered once; `settings` are statements of ours, never of anybody else."""
        return _BegunWith(self, settings)

    async def _introspect_types(self, typeoids: Collection[int], timeout: float | None) -> Any:
        """What the driver asks before it can send or read types that are new to it."""
        return known(typeoids) or await super()._introspect_types(typeoids, timeout)  # type: ignore[misc]

    async def _introspect_type(self, typename: str, schema: str) -> Any:
        """What the driver asks before a type can have a codec of ours."""
        if schema == "pg_catalog" and typename in _JSON:
            return {"oid": _JSON[typename], "elemtype": 0, "kind": b"b"}
        return await super()._introspect_type(typename, schema)  # type: ignore[misc]


class _BegunWith(Transaction):
    def __init__(self, connection: PooledConnection, settings: str) -> None:
        super().__init__(connection, None, False, False)
        self._on = connection
        self._settings = settings

    async def start(self) -> None:
        """As the driver does it, in one message with the settings; within it the driver makes savepoints as ever."""
        # Where the driver looks for the transaction around a savepoint or a cursor.
        self._on._top_xact = self  # type: ignore[attr-defined]  # noqa: SLF001 - the stubs leave out what is private
        try:
            await self._on.execute(f"BEGIN;{self._settings}")
        except BaseException:
            self._state = TransactionState.FAILED
            raise
        self._state = TransactionState.STARTED


async def keep(_: Connection) -> None:
    """A connection goes back to its pool as it is: only transactions are ever run on it, and they leave nothing."""


def _encode(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def keep_alive(connection: Connection, silence_seconds: float) -> None:
    """Let this machine's kernel look after the connection: it is lost when the other side is silent for so long."""
    transport = getattr(connection, "_transport", None)  # the driver has no other way to its socket
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    each = max(1, round(silence_seconds / 4))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 2 * each),
        (socket.TCP_KEEPINTVL, each),
        (socket.TCP_KEEPCNT, 2),
        (socket.TCP_USER_TIMEOUT, round(silence_seconds * 1000)),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def json_texts(values: Iterable[Any]) -> list[str]:
    """JSON for a `text[]` that is cast in the statement: an array of json would have the driver ask for its type."""
    return [_encode(value) for value in values]


async def prepare(connection: Connection) -> None:
    """What each new connection gets: jsonb and json as Python values."""
    for name in _JSON:
        await connection.set_type_codec(name, schema="pg_catalog", encoder=_encode, decoder=orjson.loads, format="text")
