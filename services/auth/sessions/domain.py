"""Session domain: what a refresh token may still do, and what an access token says. Pure."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

GRACE_SECONDS = 30
# Far longer than the grace, and than the clocks of two replicas differ.
SPENT_KEPT_SECONDS = 300
SEAL_BYTES = MARK_BYTES = 16
ISSUER = "dataaggregator"
AUDIENCE = "dataaggregator"


@dataclass(frozen=True)
class Membership:
    workspace_id: UUID
    name: str
    role: str


@dataclass(frozen=True)
class Account:
    """What a login needs to know of a user."""

    id: UUID
    workspace_id: UUID
    email: str
    password_hash: str | None  # None for who has no password to log in with
    active: bool


@dataclass(frozen=True)
class Family:
    """All tokens that descend from one login."""

    id: UUID
    user_id: UUID
    begun_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    browser: bool = False  # its one token is in a cookie, and stays the same
    seal: bytes | None = None  # what its tokens are marked with; of a login that began before there were marks none


@dataclass(frozen=True)
class Lives:
    """How long a login goes on: `idle` without being used, `whole` however often it is."""

    idle: timedelta
    whole: timedelta

    def prolonged(self, family: Family, now: datetime) -> Family:
        return replace(family, expires_at=min(now + self.idle, family.begun_at + self.whole))

    def end_of(self, family: Family) -> datetime:
        """As it was written down, or sooner where less is allowed by now."""
        return min(family.expires_at, family.begun_at + self.whole)


@dataclass(frozen=True)
class RefreshToken:
    """One refresh token as stored: its hash, never itself."""

    digest: bytes
    family: Family
    nonce: bytes
    spent_at: datetime | None
    marked: bool = False  # so that its row is not needed to know it again


class Use(StrEnum):
    """What presenting a refresh token means."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    REUSE = "reuse"
    ENDED = "ended"


def judge(token: RefreshToken, lives: Lives, now: datetime) -> Use:
    """A fresh token is rotated; a spent one repeats its successor for 30 s; later it betrays a theft."""
    if token.family.revoked_at is not None or now >= lives.end_of(token.family):
        return Use.ENDED
    if token.spent_at is None:
        return Use.ROTATE
    if now - token.spent_at <= timedelta(seconds=GRACE_SECONDS):
        return Use.REPEAT
    return Use.REUSE


def first_secret() -> str:
    return secrets.token_urlsafe(32)


def successor(key: bytes, token: str, nonce: bytes) -> str:
    """The secret of the token after `token`: derived, so that the grace can repeat it though nobody stored it.

    Neither the database (nonce) nor the key alone is enough to foresee it.
    """
    mac = hmac.new(key, nonce + token.encode(), hashlib.sha256).digest()
    return _text(mac)


def marked(family: Family, secret: str) -> str:
    """The token of this secret: it tells of which login it is, and that it was given out, without any row of its own.

    The mark opens nothing: only the digest of the whole token that is stored does.
    """
    return secret if family.seal is None else f"{secret}.{_text(family.id.bytes + _mark(family.seal, secret))}"


def claimed_family(token: str) -> UUID | None:
    """The login that a token says it is of, where it says so."""
    try:
        said = base64.b64decode(f"{token.partition('.')[2]}=", altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    return UUID(bytes=said[:16]) if len(said) == 16 + MARK_BYTES else None


def forgotten(family: Family, token: str) -> RefreshToken | None:
    """The token of a family whose row is gone, which it was spent long before; None if it never was one."""
    secret, dot, _ = token.partition(".")
    if not dot or family.seal is None or not hmac.compare_digest(marked(family, secret).encode(), token.encode()):
        return None
    return RefreshToken(digest(token), family, b"", family.begun_at, marked=True)


def _mark(seal: bytes, secret: str) -> bytes:
    return hmac.new(seal, secret.encode(), hashlib.sha256).digest()[:MARK_BYTES]


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def email_key(email: str) -> str:
    """E-mail addresses that differ only in case or outer blanks are one account."""
    return email.strip().casefold()


@dataclass(frozen=True)
class Grant:
    """Everything an access token says about its bearer."""

    user_id: UUID
    email: str
    family_id: UUID
    default_workspace: UUID
    memberships: Sequence[Membership]


def claims(grant: Grant, token_id: UUID, now: datetime, lifetime_seconds: int) -> dict[str, object]:
    """The claims of an access token; times to the millisecond, so that "issued before" is exact."""
    issued = int(now.timestamp() * 1000) / 1000
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(grant.user_id),
        "jti": str(token_id),
        "fam": str(grant.family_id),
        "iat": issued,
        "exp": int(issued) + lifetime_seconds,
        "email": grant.email,
        "ws": [{"id": str(m.workspace_id), "name": m.name, "role": m.role} for m in grant.memberships],
        "dws": str(grant.default_workspace),
    }


@dataclass(frozen=True)
class Bucket:
    """Login attempts of one account: `tokens` left when it was last touched."""

    tokens: float
    touched_at: datetime


def draw(bucket: Bucket | None, limit: int, per_seconds: float, now: datetime) -> tuple[Bucket, float]:
    """Take one attempt; answers the bucket after it and the seconds to wait (0: the attempt is free)."""
    rate = limit / per_seconds
    left = float(limit)
    if bucket is not None:
        elapsed = max(0.0, (now - bucket.touched_at).total_seconds())
        left = min(float(limit), bucket.tokens + elapsed * rate)
    if left < 1:
        return Bucket(left, now), (1 - left) / rate
    return Bucket(left - 1, now), 0.0
