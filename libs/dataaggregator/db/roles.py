"""The database: two roles that own nothing; the login user may become either."""

from typing import Literal

import asyncpg

from dataaggregator.db.connection import Connection
from dataaggregator.errors import Permanent

Role = Literal["workspace", "platform"]

WORKSPACE_ROLE = "dataaggregator_workspace"
"""Sees the rows of the workspace that the transaction has set, and none without."""

PLATFORM_ROLE = "dataaggregator_platform"
"""For loops that cross workspaces; sees all rows."""

ROLE_NAMES: dict[Role, str] = {"workspace": WORKSPACE_ROLE, "platform": PLATFORM_ROLE}


async def ensure_roles(connection: Connection) -> None:
    """Make the two roles if they are not there, and let the login user become them."""
    for role in ROLE_NAMES.values():
        await _make(connection, role)
    superuser = await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    if not superuser:
        for role in ROLE_NAMES.values():
            await _grant(connection, role)


async def _make(connection: Connection, role: str) -> None:
    if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        return
    try:
        await connection.execute(f"CREATE ROLE {role} NOLOGIN NOINHERIT")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return  # roles belong to the whole server: somebody else was faster
    except asyncpg.InsufficientPrivilegeError as error:
        raise Permanent(
            "database-role-missing",
            f"The database user may not create the role {role}: create it, or grant CREATEROLE.",
        ) from error


async def _grant(connection: Connection, role: str) -> None:
    may = "SELECT pg_has_role(current_user, $1, 'SET')"
    if await connection.fetchval("SELECT current_setting('server_version_num')::int") < 160000:
        may = "SELECT pg_has_role(current_user, $1, 'MEMBER')"
    if await connection.fetchval(may, role):
        return
    try:
        await connection.execute(f"GRANT {role} TO CURRENT_USER")
    except asyncpg.InsufficientPrivilegeError as error:
        raise Permanent(
            "database-role-missing", f"The database user may not become {role}: GRANT {role} to it."
        ) from error
