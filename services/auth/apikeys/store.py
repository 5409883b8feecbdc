"""API key store: all SQL over keys."""

from datetime import datetime
from uuid import UUID

import asyncpg

from dataaggregator.db import Connection
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.permissions import Permission

from .domain import ApiKey

_KEY = """
SELECT k.id, k.workspace_id, k.user_id, u.email, k.name, k.hint, k.scopes, k.created_at, k.created_by, k.expires_at,
       k.last_used_at
FROM auth.api_keys k JOIN auth.users u ON u.id = k.user_id
"""


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(**{**dict(row), "scopes": tuple(Permission(scope) for scope in row["scopes"])})


async def add_key(tx: Connection, key: ApiKey, digest: bytes) -> None:
    try:
        async with tx.transaction():
            await tx.execute(
                """INSERT INTO auth.api_keys (id, workspace_id, user_id, name, digest, hint, scopes, created_at,
                                              created_by, expires_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
                key.id,
                key.workspace_id,
                key.user_id,
                key.name,
                digest,
                key.hint,
                list(key.scopes),
                key.created_at,
                key.created_by,
                key.expires_at,
            )
    except asyncpg.UniqueViolationError:
        raise Conflict("already-exists", f"There is already a key {key.name}.") from None


async def get_key(tx: Connection, workspace: UUID, reference: str, *, lock: bool = False) -> ApiKey:
    """The key with this id or name."""
    row = await tx.fetchrow(
        f"{_KEY} WHERE k.workspace_id = $1 AND (k.id::text = $2 OR k.name = $2) {'FOR UPDATE OF k' if lock else ''}",
        workspace,
        reference,
    )
    if row is None:
        raise NotFound("api-key-not-found", f"There is no API key {reference} in this workspace.")
    return _key(row)


async def list_keys(tx: Connection, workspace: UUID, after: UUID | None, limit: int) -> list[ApiKey]:
    """Keys in the order they were made, `limit` of those after the id `after`."""
    rows = await tx.fetch(
        f"{_KEY} WHERE k.workspace_id = $1 AND ($2::uuid IS NULL OR k.id > $2) ORDER BY k.id LIMIT $3",
        workspace,
        after,
        limit,
    )
    return [_key(row) for row in rows]


async def find_by_digest(tx: Connection, digest: bytes, *, lock: bool = False) -> ApiKey | None:
    """The key; locked, it stays until this transaction ends, so that no token is given out behind its removal."""
    row = await tx.fetchrow(f"{_KEY} WHERE k.digest = $1 {'FOR UPDATE OF k' if lock else ''}", digest)
    return _key(row) if row else None


async def note_use(tx: Connection, key_id: UUID, now: datetime) -> None:
    await tx.execute("UPDATE auth.api_keys SET last_used_at = $2 WHERE id = $1", key_id, now)


async def remove_key(tx: Connection, key_id: UUID) -> None:
    await tx.execute("DELETE FROM auth.api_keys WHERE id = $1", key_id)


async def remove_keys_of(tx: Connection, workspace: UUID, user_id: UUID) -> None:
    """What a member had here is nothing for one who comes back."""
    await tx.execute("DELETE FROM auth.api_keys WHERE workspace_id = $1 AND user_id = $2", workspace, user_id)
