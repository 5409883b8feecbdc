"""Limiting store: all SQL over logins counted here while the limits store does not answer."""

from datetime import datetime

from dataaggregator.db import Connection


async def lock_bucket(tx: Connection, key: str, full: float, now: datetime) -> tuple[float, datetime]:
    """What the bucket held and when, made full if new; nobody else touches it until this transaction ends."""
    await tx.execute(
        "INSERT INTO gateway.login_buckets (key, tokens, touched_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        key,
        full,
        now,
    )
    row = await tx.fetchrow("SELECT tokens, touched_at FROM gateway.login_buckets WHERE key = $1 FOR UPDATE", key)
    return (row["tokens"], row["touched_at"]) if row else (full, now)


async def save_bucket(tx: Connection, key: str, tokens: float, now: datetime) -> None:
    await tx.execute("UPDATE gateway.login_buckets SET tokens = $2, touched_at = $3 WHERE key = $1", key, tokens, now)


async def remove_full(tx: Connection, touched_before: datetime) -> None:
    """Forget buckets that have filled up since: a full one and none at all decide alike."""
    await tx.execute("DELETE FROM gateway.login_buckets WHERE touched_at <= $1", touched_before)


async def remove_buckets(tx: Connection, key: str | None) -> None:
    """Those of somebody, of trusted networks too, or all."""
    await tx.execute("DELETE FROM gateway.login_buckets WHERE $1::text IS NULL OR starts_with(key, $1 || ':x')", key)
