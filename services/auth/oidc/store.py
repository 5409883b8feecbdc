"""OIDC store: all SQL over logins under way at the provider, and over its subjects that are users here."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dataaggregator.db import Connection


@dataclass(frozen=True)
class Login:
    """One under way: whether a session of a browser is wanted, and where the browser goes after it."""

    browser: bool
    return_to: str | None


async def add_login(tx: Connection, digest: bytes, login: Login, expires_at: datetime) -> None:
    await tx.execute(
        "INSERT INTO auth.oidc_logins (digest, browser, return_to, expires_at) VALUES ($1, $2, $3, $4)",
        digest,
        login.browser,
        login.return_to,
        expires_at,
    )


async def spend_login(tx: Connection, digest: bytes, now: datetime) -> Login | None:
    """The login under way, which can be ended once; None if there is none, or not any more."""
    row = await tx.fetchrow(
        "DELETE FROM auth.oidc_logins WHERE digest = $1 AND expires_at > $2 RETURNING browser, return_to", digest, now
    )
    return Login(**dict(row)) if row else None


async def remove_outlived(tx: Connection, now: datetime) -> None:
    await tx.execute("DELETE FROM auth.oidc_logins WHERE expires_at <= $1", now)


async def lock_subject(tx: Connection, issuer: str, subject: str) -> UUID | None:
    """The user who this subject is; two logins of a new one come here one after the other."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"oidc {issuer} {subject}")
    found: UUID | None = await tx.fetchval(
        "SELECT user_id FROM auth.oidc_identities WHERE issuer = $1 AND subject = $2", issuer, subject
    )
    return found


async def is_known(tx: Connection, issuer: str, user_id: UUID) -> bool:
    """Is this user a subject of that provider?"""
    query = "SELECT EXISTS (SELECT FROM auth.oidc_identities WHERE user_id = $1 AND issuer = $2)"
    return bool(await tx.fetchval(query, user_id, issuer))


async def add_subject(tx: Connection, issuer: str, subject: str, user_id: UUID, now: datetime) -> None:
    await tx.execute(
        "INSERT INTO auth.oidc_identities (issuer, subject, user_id, created_at) VALUES ($1, $2, $3, $4)",
        issuer,
        subject,
        user_id,
        now,
    )
