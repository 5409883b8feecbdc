"""A COMMIT without an answer: ask the destination what became of it, never guess and never retry blindly."""

import asyncio
import datetime
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import CommitUnknown, LoadRequest, Receipt
from dataaggregator.errors import Transient
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.connection import Connection, connected
from dataaggregator_connectors.postgres.ledger import find_receipt

SETTLE_SECONDS = 60.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Backend:
    """The server process of a load; its number alone could be another's by now."""

    pid: int
    started_at: datetime.datetime

    @classmethod
    async def of(cls, connection: Connection) -> "Backend":
        if (known := _known.get(connection)) is not None:
            return known
        row = await connection.fetchrow("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        assert row is not None  # noqa: S101  (a session always sees itself)
        found = _known[connection] = cls(row["pid"], row["backend_start"])
        return found


_known: "WeakKeyDictionary[Connection, Backend]" = WeakKeyDictionary()


async def settle(
    config: PostgresConfig, context: Context, load: LoadRequest, backend: Backend, cause: BaseException
) -> Receipt:
    """The receipt if the load was committed; Transient if it was rolled back; CommitUnknown if nobody can say."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_SECONDS
    while True:
        try:
            return await _ask(config, context, load, backend, deadline)
        except Transient as error:
            if error.code == "load-rolled-back":
                raise error from cause
            if loop.time() > deadline:
                raise CommitUnknown(
                    "commit-unknown",
                    f"The commit into {load.stream} was not answered and the destination cannot be asked: "
                    f"{error.detail} The next attempt looks into its ledger first.",
                ) from cause
        await asyncio.sleep(LOOK_SECONDS)


async def _ask(
    config: PostgresConfig, context: Context, load: LoadRequest, backend: Backend, deadline: float
) -> Receipt:
    async with connected(config, context) as connection:
        while await _alive(connection, backend):
            if asyncio.get_running_loop().time() > deadline:
                raise Transient("connector-unreachable", f"The load's server process {backend.pid} has not ended.")
            await asyncio.sleep(LOOK_SECONDS)
        receipt = await find_receipt(connection, load)
    if receipt is None:
        raise Transient(
            "load-rolled-back", f"The connection was lost at the commit into {load.stream}; nothing was loaded."
        )
    return receipt


async def _alive(connection: Connection, backend: Backend) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2)",
            backend.pid,
            backend.started_at,
        )
    )
