"""Auth's schema: what may be seen and changed by whom."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from dataaggregator.db import Database
from dataaggregator.ids import new_id
from services.auth.audit import store
from services.auth.audit.domain import Entry, first_broken, link
from tests.sql import execute


@pytest.mark.parametrize("table", ["audit", "audit_heads", "audit_anchors"])
async def test_the_audit_is_append_only(database: Database, database_url: str, table: str) -> None:
    """For the platform by its rights, and for the owner of the tables by a trigger."""
    for statement in (f"DELETE FROM auth.{table}", f"UPDATE auth.{table} SET position = 2"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.platform() as tx:
                await tx.execute(statement)
    for statement in (f"DELETE FROM auth.{table}", f"UPDATE auth.{table} SET position = 2", f"TRUNCATE auth.{table}"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await execute(database_url, statement)


@pytest.mark.parametrize(
    "table", ["users", "refresh_tokens", "signing_keys", "peppers", "login_attempts", "password_resets", "api_keys"]
)
async def test_a_workspace_never_sees_what_belongs_to_the_platform(database: Database, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(new_id()) as tx:
            await tx.fetch(f"SELECT FROM auth.{table}")


async def test_many_who_append_to_the_audit_at_once_make_one_chain(database: Database) -> None:
    workspace = new_id()

    async def append(number: int) -> None:
        async with database.platform() as tx:
            last = link(await store.last_link(tx, workspace), b"entry %d" % number)
            await store.add(tx, [Entry(workspace, datetime.now(UTC), last, (None,) * 7)])

    await asyncio.gather(*(append(number) for number in range(12)))
    assert await _chain(database, workspace) == (12, None)


async def _chain(database: Database, workspace: UUID) -> tuple[int, int | None]:
    """How many links there are, and where the first broken one is."""
    async with database.platform() as tx:
        found = [one.link for one in await store.chain(tx, workspace)]
    return len(found), first_broken(found)
