"""The database: what its server says of itself."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from dataaggregator.db.errors import connecting, translated

ABOUT = """SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version,
    clock_timestamp() AS now"""


@dataclass(frozen=True)
class Server:
    """The number of its version, as 160004, and in words; and its clock."""

    number: int
    version: str
    now: datetime


async def ask(url: str) -> Server:
    """Raises Transient when it does not answer, or does not let us in."""
    with connecting():
        connection = await asyncpg.connect(url, timeout=10)
    try:
        with translated():
            row = await connection.fetchrow(ABOUT)
        assert row is not None  # noqa: S101  (a SELECT without FROM is one row)
        return Server(row["number"], row["version"], row["now"])
    finally:
        await connection.close()
