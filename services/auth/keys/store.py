"""Key store: all SQL over signing keys and the password pepper; everything in it is sealed."""

from dataclasses import dataclass
from datetime import datetime

from dataaggregator.db import Connection

_LOCK = 0x6B657973  # "keys": one rotation at a time, whichever replica it runs in


@dataclass(frozen=True)
class SealedKey:
    kid: str
    sealed: bytes
    active_at: datetime


async def lock(tx: Connection) -> None:
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def list_keys(tx: Connection) -> list[SealedKey]:
    rows = await tx.fetch("SELECT kid, sealed, active_at FROM auth.signing_keys ORDER BY active_at")
    return [SealedKey(**dict(row)) for row in rows]


async def add_key(tx: Connection, key: SealedKey, now: datetime) -> None:
    await tx.execute(
        "INSERT INTO auth.signing_keys (kid, sealed, active_at, created_at) VALUES ($1, $2, $3, $4)",
        key.kid,
        key.sealed,
        key.active_at,
        now,
    )


async def remove_keys(tx: Connection, kids: list[str]) -> None:
    await tx.execute("DELETE FROM auth.signing_keys WHERE kid = ANY($1)", kids)


async def find_pepper(tx: Connection, purpose: str) -> bytes | None:
    sealed: bytes | None = await tx.fetchval("SELECT sealed FROM auth.peppers WHERE purpose = $1", purpose)
    return sealed


async def add_pepper(tx: Connection, purpose: str, sealed: bytes) -> None:
    await tx.execute("INSERT INTO auth.peppers (purpose, sealed) VALUES ($1, $2)", purpose, sealed)
