"""Idempotency store: all SQL over kept answers."""

from datetime import datetime
from uuid import UUID

from dataaggregator.db import Connection
from dataaggregator.ids import new_id

from .domain import Kept, Owner, Record


async def claim(
    tx: Connection, owner: Owner, key: str, fingerprint: bytes, *, now: datetime, outlived: datetime, lost: datetime
) -> UUID | Record:
    """The id under which the request is now ours to carry out, else what the key already stands for.

    Ours to carry out is also what was let go, or begun before `lost`: under the id it had, so that it is done once.
    """
    claimed: UUID | None = await tx.fetchval(
        """INSERT INTO gateway.idempotency_keys AS k
               (workspace_id, user_id, key, fingerprint, begun_at, carried_at, id)
           VALUES ($1, $2, $3, $4, $5, $5, $6)
           ON CONFLICT (workspace_id, user_id, key) DO UPDATE SET
               (carried_at, fingerprint, begun_at, id, ended_at, status, headers, body) = (
                   SELECT excluded.carried_at, k.fingerprint, k.begun_at, k.id, k.ended_at, k.status, k.headers, k.body
                   WHERE k.begun_at > $8
                   UNION ALL
                   SELECT excluded.carried_at, excluded.fingerprint, excluded.begun_at, excluded.id,
                       NULL, NULL, NULL, NULL
                   WHERE k.begun_at <= $8)
           WHERE k.begun_at <= $8 OR k.status IS NULL AND k.fingerprint = excluded.fingerprint
               AND coalesce(k.carried_at, '-infinity') <= $7
           RETURNING id""",
        owner.workspace_id,
        owner.user_id,
        key,
        fingerprint,
        now,
        new_id(),
        lost,
        outlived,
    )
    if claimed is not None:
        return claimed
    row = await tx.fetchrow(
        """SELECT fingerprint, status, headers, body FROM gateway.idempotency_keys
           WHERE workspace_id = $1 AND user_id = $2 AND key = $3""",
        owner.workspace_id,
        owner.user_id,
        key,
    )
    if row is None:  # given up between the two statements: as good as in flight
        return Record(fingerprint, None)
    kept = None if row["status"] is None else Kept(row["status"], row["headers"], row["body"])
    return Record(row["fingerprint"], kept)


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


async def let_go(tx: Connection, owner: Owner, key: str) -> None:
    """Nobody carries it out now; whether somebody did is not known."""
    await tx.execute(
        "UPDATE gateway.idempotency_keys SET carried_at = NULL WHERE workspace_id = $1 AND user_id = $2 AND key = $3",
        owner.workspace_id,
        owner.user_id,
        key,
    )


async def give_up(tx: Connection, owner: Owner, key: str) -> None:
    """It was not carried out: the key is free again."""
    await tx.execute(
        "DELETE FROM gateway.idempotency_keys WHERE workspace_id = $1 AND user_id = $2 AND key = $3",
        owner.workspace_id,
        owner.user_id,
        key,
    )


async def remove_outlived(tx: Connection, outlived: datetime) -> None:
    await tx.execute("DELETE FROM gateway.idempotency_keys WHERE begun_at <= $1", outlived)
