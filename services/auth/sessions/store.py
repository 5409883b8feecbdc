"""Session store: all SQL over accounts at login, token families, refresh tokens, attempts and revocations."""

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from dataaggregator.db import Connection
from dataaggregator.revocations import Revocation

from .domain import Account, Bucket, Family, Membership, RefreshToken, email_key

if TYPE_CHECKING:
    from asyncpg import Record

FAMILY = "f.id, f.user_id, f.created_at AS begun_at, f.expires_at, f.revoked_at, f.browser, f.seal"
REMOVED_AT_ONCE = 1_000


async def find_account(tx: Connection, email: str) -> Account | None:
    row = await tx.fetchrow(
        "SELECT id, workspace_id, email, password_hash, active FROM auth.users WHERE email_key = $1", email_key(email)
    )
    return Account(**dict(row)) if row else None


async def account_of(tx: Connection, user_id: UUID, *, lock: bool = False) -> Account | None:
    """The account with this id; locked, it stays as it is until this transaction ends."""
    row = await tx.fetchrow(
        f"""SELECT id, workspace_id, email, password_hash, active FROM auth.users WHERE id = $1
            {"FOR UPDATE" if lock else ""}""",
        user_id,
    )
    return Account(**dict(row)) if row else None


async def memberships(tx: Connection, user_id: UUID) -> list[Membership]:
    rows = await tx.fetch(
        """SELECT m.workspace_id, w.name, m.role FROM auth.members m
           JOIN auth.workspaces w ON w.id = m.workspace_id WHERE m.user_id = $1 ORDER BY w.name""",
        user_id,
    )
    return [Membership(**dict(row)) for row in rows]


async def note_login(tx: Connection, user_id: UUID, now: datetime, password_hash: str | None) -> None:
    """The time of a login and, when the cost has changed, the password hashed anew."""
    await tx.execute(
        """UPDATE auth.users SET last_login_at = $2, password_hash = COALESCE($3, password_hash)
           WHERE id = $1""",
        user_id,
        now,
        password_hash,
    )


async def lock_bucket(tx: Connection, account: bytes, full: Bucket) -> Bucket:
    """The login attempts of an account, made full if new, locked until this transaction ends."""
    await tx.execute(
        """INSERT INTO auth.login_attempts (account, tokens, touched_at) VALUES ($1, $2, $3)
           ON CONFLICT DO NOTHING""",
        account,
        full.tokens,
        full.touched_at,
    )
    row = await tx.fetchrow("SELECT tokens, touched_at FROM auth.login_attempts WHERE account = $1 FOR UPDATE", account)
    return Bucket(row["tokens"], row["touched_at"]) if row else full


async def save_bucket(tx: Connection, account: bytes, bucket: Bucket) -> None:
    await tx.execute(
        "UPDATE auth.login_attempts SET tokens = $2, touched_at = $3 WHERE account = $1",
        account,
        bucket.tokens,
        bucket.touched_at,
    )


async def add_family(tx: Connection, family: Family) -> None:
    await tx.execute(
        """INSERT INTO auth.token_families (id, user_id, created_at, expires_at, browser, seal)
           VALUES ($1, $2, $3, $4, $5, $6)""",
        family.id,
        family.user_id,
        family.begun_at,
        family.expires_at,
        family.browser,
        family.seal,
    )


async def add_token(tx: Connection, token: RefreshToken, now: datetime) -> None:
    await tx.execute(
        "INSERT INTO auth.refresh_tokens (digest, family_id, nonce, issued_at, marked) VALUES ($1, $2, $3, $4, $5)",
        token.digest,
        token.family.id,
        token.nonce,
        now,
        token.marked,
    )


async def lock_bearer(tx: Connection, digest: bytes) -> Account | None:
    """The account a refresh token belongs to, locked: always before the token, as deactivation does it too."""
    row = await tx.fetchrow(
        """SELECT u.id, u.workspace_id, u.email, u.password_hash, u.active FROM auth.refresh_tokens t
           JOIN auth.token_families f ON f.id = t.family_id JOIN auth.users u ON u.id = f.user_id
           WHERE t.digest = $1 FOR UPDATE OF u""",
        digest,
    )
    return Account(**dict(row)) if row else None


async def lock_token(tx: Connection, digest: bytes) -> RefreshToken | None:
    """The refresh token with this digest; its whole family stands still until this transaction ends."""
    row = await tx.fetchrow(
        f"""SELECT t.digest, t.nonce, t.spent_at, t.marked, {FAMILY}
            FROM auth.refresh_tokens t JOIN auth.token_families f ON f.id = t.family_id
            WHERE t.digest = $1 FOR UPDATE""",
        digest,
    )
    return (
        None if row is None else RefreshToken(row["digest"], _family(row), row["nonce"], row["spent_at"], row["marked"])
    )


async def lock_owner(tx: Connection, family_id: UUID) -> Account | None:
    """The account whose login this is, locked: always before the login."""
    row = await tx.fetchrow(
        """SELECT u.id, u.workspace_id, u.email, u.password_hash, u.active
           FROM auth.token_families f JOIN auth.users u ON u.id = f.user_id WHERE f.id = $1 FOR UPDATE OF u""",
        family_id,
    )
    return Account(**dict(row)) if row else None


async def lock_family(tx: Connection, family_id: UUID) -> Family | None:
    row = await tx.fetchrow(f"SELECT {FAMILY} FROM auth.token_families f WHERE f.id = $1 FOR UPDATE", family_id)
    return None if row is None else _family(row)


async def is_stored(tx: Connection, digest: bytes) -> bool:
    found: bool = await tx.fetchval("SELECT EXISTS (SELECT FROM auth.refresh_tokens WHERE digest = $1)", digest)
    return found


def _family(row: "Record") -> Family:
    names = ("id", "user_id", "begun_at", "expires_at", "revoked_at", "browser", "seal")
    return Family(**{name: row[name] for name in names})


async def spend_token(tx: Connection, digest: bytes, now: datetime) -> None:
    await tx.execute("UPDATE auth.refresh_tokens SET spent_at = $2 WHERE digest = $1", digest, now)


async def remove_spent(tx: Connection, family_id: UUID, before: datetime) -> None:
    """Forget tokens of a family that were spent before this, and are known again by their mark."""
    await tx.execute(
        "DELETE FROM auth.refresh_tokens WHERE family_id = $1 AND marked AND spent_at < $2", family_id, before
    )


async def prolong_family(tx: Connection, family: Family) -> None:
    await tx.execute("UPDATE auth.token_families SET expires_at = $2 WHERE id = $1", family.id, family.expires_at)


async def revoke_family(tx: Connection, family_id: UUID, reason: str, now: datetime) -> bool:
    """End a family; False when it had ended already."""
    ended = await tx.fetchval(
        """UPDATE auth.token_families SET revoked_at = $2, reason = $3
           WHERE id = $1 AND revoked_at IS NULL RETURNING true""",
        family_id,
        now,
        reason,
    )
    return ended is not None


async def revoke_families_of(
    tx: Connection, user_id: UUID, reason: str, now: datetime, *, but: UUID | None = None
) -> list[UUID]:
    """End every family of a user `but` this one; answers those that ended by it."""
    rows = await tx.fetch(
        """UPDATE auth.token_families SET revoked_at = $2, reason = $3
           WHERE user_id = $1 AND revoked_at IS NULL AND id IS DISTINCT FROM $4 RETURNING id""",
        user_id,
        now,
        reason,
        but,
    )
    return [row["id"] for row in rows]


async def add_revocation(tx: Connection, revocation: Revocation) -> None:
    await tx.execute(
        """INSERT INTO auth.revocations (kind, id, revoked_at, until) VALUES ($1, $2, $3, $4)
           ON CONFLICT (kind, id) DO UPDATE SET revoked_at = GREATEST(revocations.revoked_at, EXCLUDED.revoked_at),
                                                until = GREATEST(revocations.until, EXCLUDED.until)""",
        revocation.kind,
        revocation.id,
        revocation.revoked_at,
        revocation.until,
    )


async def list_revocations(tx: Connection, now: datetime, since: datetime | None = None) -> list[Revocation]:
    """Revocations that still matter; those after ``since``, or all."""
    rows = await tx.fetch(
        """SELECT kind, id, revoked_at, until FROM auth.revocations
           WHERE until > $1 AND ($2::timestamptz IS NULL OR revoked_at > $2)""",
        now,
        since,
    )
    return [Revocation(row["kind"], row["id"], row["revoked_at"], row["until"]) for row in rows]


async def remove_outlived(tx: Connection, now: datetime, attempts_before: datetime) -> bool:
    """Forget some of what can no longer matter: ended families with their tokens, revocations, full buckets.

    Says whether there may be more.
    """
    more = [
        await _remove(tx, "token_families", "id", "expires_at", now),
        await _remove(tx, "revocations", "(kind, id)", "until", now),
        await _remove(tx, "login_attempts", "account", "touched_at", attempts_before),
    ]
    return any(more)


async def _remove(tx: Connection, table: str, key: str, time: str, until: datetime) -> bool:
    done = await tx.execute(
        # The time twice: a row that is prolonged meanwhile is looked at again, and only the outer one is asked then.
        f"""DELETE FROM auth.{table} WHERE {time} <= $1 AND {key} IN (
                SELECT {key.strip("()")} FROM auth.{table} WHERE {time} <= $1 LIMIT $2)""",
        until,
        REMOVED_AT_ONCE,
    )
    return int(done.split()[-1]) == REMOVED_AT_ONCE
