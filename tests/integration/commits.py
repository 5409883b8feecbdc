"""COMMITs that wait, so that something may become of those who wait for their answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

LOCK = 77
HOLD = """
    CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock({lock}); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.hold()"""
WAITING = "FROM pg_stat_activity WHERE wait_event = 'advisory' AND query ILIKE 'COMMIT%'"


class Held:
    """COMMITs with new rows of a table wait until `release`."""

    def __init__(self, owner: Connection) -> None:
        self._owner = owner

    async def waiting(self) -> bool:
        return await self._owner.fetchval(f"SELECT 1 {WAITING}") is not None

    async def undo(self) -> None:
        """Those that wait end without having committed."""
        await self._owner.execute(f"SELECT pg_terminate_backend(pid) {WAITING}")

    async def release(self) -> None:
        await self._owner.execute("SELECT pg_advisory_unlock_all()")


@asynccontextmanager
async def commits_held(url: str, table: str) -> AsyncIterator[Held]:
    """In the database of this URL, whose user owns the table; they go on when the block ends."""
    owner = await asyncpg.connect(url)
    try:
        await owner.execute(HOLD.format(lock=LOCK, table=table))
        await owner.execute(f"SELECT pg_advisory_lock({LOCK})")
        yield Held(owner)
    finally:
        await owner.close()
