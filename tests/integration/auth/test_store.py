"""Auth's schema: what may be seen and changed by whom."""

import asyncpg
import pytest

from dataaggregator.db import Database
from dataaggregator.ids import new_id


async def test_the_audit_is_append_only(database: Database) -> None:
    async with database.platform() as tx:
        await tx.execute("INSERT INTO auth.audit VALUES ($1, 1, now(), 'content', 'previous', 'digest')", new_id())
    for statement in ("DELETE FROM auth.audit", "UPDATE auth.audit SET position = 2"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            async with database.platform() as tx:
                await tx.execute(statement)


@pytest.mark.parametrize("table", ["users", "refresh_tokens", "signing_keys", "peppers", "login_attempts"])
async def test_a_workspace_never_sees_what_belongs_to_the_platform(database: Database, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(new_id()) as tx:
            await tx.fetch(f"SELECT FROM auth.{table}")
