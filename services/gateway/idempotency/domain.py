"""Idempotency domain: what a key already stands for, and what follows. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from dataaggregator.errors import Conflict, FieldError, Invalid

KEEP_SECONDS = 24 * 3600
LONGEST_KEY = 255
# Longer than the gateway waits for a silent service: whoever began it is gone, without having said how it ended.
LOST_AFTER_SECONDS = 300


@dataclass(frozen=True)
class Owner:
    """Keys of different callers, or of one caller in different workspaces, never meet."""

    workspace_id: UUID
    user_id: UUID


@dataclass(frozen=True)
class Kept:
    """An answer as it was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Record:
    fingerprint: bytes
    begun_at: datetime
    kept: Kept | None


def check_key(key: str) -> str:
    """1 to 255 printable ASCII characters."""
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        wrong = FieldError("Idempotency-Key", "should be 1 to 255 printable ASCII characters", "format")
        raise Invalid("idempotency-key-invalid", "The Idempotency-Key cannot be used.", errors=[wrong])
    return key


def fingerprint(method: str, target: str, body: bytes) -> bytes:
    """What makes two requests the same."""
    return hashlib.sha256(b"\x00".join((method.encode(), target.encode(), body))).digest()


def answer_of(record: Record, asked: bytes, now: datetime) -> Kept:
    """The answer to give again; raises Invalid for another request, Conflict while there is no answer."""
    if record.fingerprint != asked:
        raise Invalid("idempotency-key-reused", "This Idempotency-Key was sent with another request before.")
    if record.kept is not None:
        return record.kept
    if now - record.begun_at < timedelta(seconds=LOST_AFTER_SECONDS):
        raise Conflict("idempotency-in-flight", "The first request with this Idempotency-Key is still at work.")
    raise outcome_unknown()


def outcome_unknown() -> Conflict:
    return Conflict(
        "idempotency-outcome-unknown",
        "The first request with this Idempotency-Key got no answer; whether it was carried out is not known.",
    )


def final(status: int) -> bool:
    """Is this what the request will always be answered? Not where nothing was decided about it yet."""
    return status < 500 and status not in (401, 408, 429)
