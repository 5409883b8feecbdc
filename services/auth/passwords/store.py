"""Password store: all SQL over password hashes and the tokens that set new ones."""

from datetime import datetime
from uuid import UUID

from dataaggregator.db import Connection

from .domain import Person, Reset


async def person_of(tx: Connection, user_id: UUID) -> Person | None:
    row = await tx.fetchrow("SELECT email, name FROM auth.users WHERE id = $1", user_id)
    return Person(row["email"], row["name"]) if row else None


async def save_hash(tx: Connection, user_id: UUID, password_hash: str, now: datetime) -> None:
    """A new password is a new version of the user, and takes back every token that could set another one."""
    await tx.execute(
        "UPDATE auth.users SET password_hash = $2, updated_at = $3, version = version + 1 WHERE id = $1",
        user_id,
        password_hash,
        now,
    )
    await remove_reset(tx, user_id)


async def save_reset(tx: Connection, reset: Reset, now: datetime) -> None:
    """One for each user: what was given out before is good no more."""
    await tx.execute(
        """INSERT INTO auth.password_resets (user_id, digest, created_at, expires_at) VALUES ($1, $2, $3, $4)
           ON CONFLICT (user_id) DO UPDATE SET digest = EXCLUDED.digest, created_at = EXCLUDED.created_at,
                                               expires_at = EXCLUDED.expires_at""",
        reset.user_id,
        reset.digest,
        now,
        reset.expires_at,
    )


async def find_reset(tx: Connection, digest: bytes, now: datetime) -> Reset | None:
    """The reset of this token, if it is still good and its user may log in."""
    row = await tx.fetchrow(
        """SELECT r.user_id, r.digest, r.expires_at FROM auth.password_resets r JOIN auth.users u ON u.id = r.user_id
           WHERE r.digest = $1 AND r.expires_at > $2 AND u.active""",
        digest,
        now,
    )
    return Reset(**dict(row)) if row else None


async def remove_reset(tx: Connection, user_id: UUID) -> None:
    await tx.execute("DELETE FROM auth.password_resets WHERE user_id = $1", user_id)


async def remove_outlived(tx: Connection, now: datetime) -> None:
    await tx.execute("DELETE FROM auth.password_resets WHERE expires_at <= $1", now)
