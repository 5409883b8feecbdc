"""How many rows of a load are there now as it wrote them: PostgreSQL knows the transaction of each version of a row."""

from collections.abc import Sequence

import asyncpg

from dataaggregator.connector.destination import LoadRequest, Recount
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.ledger import SCHEMA
from dataaggregator_connectors.postgres.sql import parse_table

# Numbers of transactions come again after 2^32; further back than half of that an old one looks like a new one.
TOLD_APART = 2**31


async def recount(connection: Connection, load: LoadRequest) -> Recount | None:
    """Of all chunks; None where the run has loaded nothing.

    A version of a row that carries the load's transaction is what the load wrote: whoever changes a row makes another
    version (PostgreSQL, "System Columns": xmin), and freezing leaves the number in place.
    """
    rows = await connection.fetch(
        f"""SELECT inserted + updated AS written, txid, txid_snapshot_xmax(txid_current_snapshot()) - txid AS since
        FROM {SCHEMA}.loads WHERE run_id = $1 AND stream = $2""",
        load.run_id, load.stream,
    )  # fmt: skip
    if not rows:
        return None
    written = sum(row["written"] for row in rows)
    if any(row["txid"] is None or row["since"] >= TOLD_APART for row in rows):
        return Recount(written, None, "The load is too old for its rows to be told from others.")
    try:
        return Recount(written, await _count(connection, load.stream, [row["txid"] % 2**32 for row in rows]))
    except asyncpg.UndefinedTableError:
        return Recount(written, 0, "The table is not there any more.")
    except asyncpg.QueryCanceledError:
        return Recount(written, None, "Counting took too long.")
    except asyncpg.PostgresError as error:
        return Recount(written, None, f"The rows cannot be counted: {error.args[0]}.")


async def _count(connection: Connection, stream: str, transactions: Sequence[int]) -> int:
    found = await connection.fetchval(
        f"SELECT count(*) FROM {parse_table(stream).sql} WHERE xmin = ANY($1::text[]::xid[])",
        [str(number) for number in transactions],
    )
    return int(found)
