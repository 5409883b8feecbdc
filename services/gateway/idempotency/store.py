"""Idempotency store: all SQL over kept answers."""

from datetime import datetime

from dataaggregator.db import Connection

from .domain import Kept, Owner, Record


async def claim(
    tx: Connection, owner: Owner, key: str, fingerprint: bytes, *, now: datetime, outlived: datetime
) -> Record | None:
    """None when the key is now ours to carry out, else what it already stands for."""
    await tx.execute(
        """DELETE FROM gateway.idempotency_keys
           WHERE workspace_id = $1 AND user_id = $2 AND key = $3 AND begun_at <= $4""",
        owner.workspace_id,
        owner.user_id,
        key,
        outlived,
    )
    claimed = await tx.fetchval(
        """INSERT INTO gateway.idempotency_keys (workspace_id, user_id, key, fingerprint, begun_at)
           VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true""",
        owner.workspace_id,
        owner.user_id,
        key,
        fingerprint,
        now,
    )
    if claimed:
        return None
    row = await tx.fetchrow(
        """SELECT fingerprint, begun_at, status, headers, body FROM gateway.idempotency_keys
           WHERE workspace_id = $1 AND user_id = $2 AND key = $3""",
        owner.workspace_id,
        owner.user_id,
        key,
    )
    if row is None:  # given up between the two statements: as good as in flight
        return Record(fingerprint, now, None)
    kept = None if row["status"] is None else Kept(row["status"], row["headers"], row["body"])
    return Record(row["fingerprint"], row["begun_at"], kept)


async def keep(tx: Connection, owner: Owner, key: str, kept: Kept, now: datetime) -> None:
    await tx.execute(
        """UPDATE gateway.idempotency_keys SET status = $4, headers = $5, body = $6, ended_at = $7
           WHERE workspace_id = $1 AND user_id = $2 AND key = $3""",
        owner.workspace_id,
        owner.user_id,
        key,
        kept.status,
        dict(kept.headers),
        kept.body,
        now,
    )


async def give_up(tx: Connection, owner: Owner, key: str) -> None:
    await tx.execute(
        "DELETE FROM gateway.idempotency_keys WHERE workspace_id = $1 AND user_id = $2 AND key = $3",
        owner.workspace_id,
        owner.user_id,
        key,
    )


async def remove_outlived(tx: Connection, outlived: datetime) -> None:
    await tx.execute("DELETE FROM gateway.idempotency_keys WHERE begun_at <= $1", outlived)
