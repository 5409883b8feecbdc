"""The database: the one typed door to the driver's connections; jsonb goes in and out as Python values."""

from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import orjson

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
else:
    Connection = asyncpg.Connection


def _encode(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


async def prepare(connection: Connection) -> None:
    """What each new connection gets: jsonb and json as Python values."""
    for name in ("jsonb", "json"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=_encode, decoder=orjson.loads, format="text")
