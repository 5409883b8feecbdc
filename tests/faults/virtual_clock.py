"""A database whose clock is the test's: its `now()` and `clock_timestamp()` are found before the server's own.

The scheduler asks nobody but the database for the time (RELIABILITY, rule 12), so that the product needs no door for
this. Pauses between two looks, time limits and connections live in real time all the same.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import asyncpg

from dataaggregator.db import Database
from dataaggregator.settings import Settings
from tests.faults.invariants import Connection

FUNCTION = """CREATE OR REPLACE FUNCTION test_clock.{name}() RETURNS timestamptz LANGUAGE sql {kept} AS
    $$ SELECT timestamptz '{at}' + (pg_catalog.{name}() - timestamptz '{since}') * {speed} $$"""


@dataclass(frozen=True)
class VirtualClock:
    """Real until it is set."""

    connection: Connection

    async def set(self, at: datetime, speed: float) -> None:
        """From now on it goes on from there, so many times as fast as real time."""
        since = await self.connection.fetchval("SELECT pg_catalog.clock_timestamp()")
        async with self.connection.transaction():
            for name, kept in (("now", "STABLE"), ("clock_timestamp", "VOLATILE")):
                function = FUNCTION.format(
                    name=name, kept=kept, at=at.isoformat(), since=since.isoformat(), speed=speed
                )
                await self.connection.execute(function)

    async def now(self) -> datetime:
        found: datetime = await self.connection.fetchval("SELECT test_clock.clock_timestamp()")
        return found


@asynccontextmanager
async def virtual_database(url: str, settings: Settings) -> AsyncIterator[tuple[Database, VirtualClock]]:
    """The platform's door to it, and its clock."""
    async with virtual_clock(url) as clock:
        database = Database(url, settings)
        await database.open()
        try:
            yield database, clock
        finally:
            await database.close()


@asynccontextmanager
async def virtual_clock(url: str) -> AsyncIterator[VirtualClock]:
    """Of the database there, for every connection that is made from now on."""
    connection = await asyncpg.connect(url)
    try:
        database = urlsplit(url).path.removeprefix("/")
        await connection.execute(
            f"""CREATE SCHEMA test_clock;
                GRANT USAGE ON SCHEMA test_clock TO PUBLIC;
                ALTER DATABASE {database} SET search_path = test_clock, pg_catalog, public"""
        )
        clock = VirtualClock(connection)
        await clock.set(datetime.now(UTC), 1.0)
        yield clock
    finally:
        await connection.close()
