"""Idempotency domain: what a key already stands for, and what follows. Pure."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from dataaggregator.errors import Conflict, FieldError, Invalid
from dataaggregator.http.parse import IDEMPOTENCY_KEY_PATTERN

KEEP_SECONDS = 24 * 3600
# Longer than the gateway waits for a silent service: whoever carried it out is gone without having said how it ended.
LOST_AFTER_SECONDS = 300
_KEY = re.compile(IDEMPOTENCY_KEY_PATTERN)


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
    """What a key stands for: without an answer it is being carried out."""

    fingerprint: bytes
    kept: Kept | None


def check_key(key: str) -> str:
    """1 to 255 printable ASCII characters without spaces, as the document says."""
    if not _KEY.fullmatch(key):
        wrong = FieldError("Idempotency-Key", "should be 1 to 255 printable ASCII characters without spaces", "format")
        raise Invalid("idempotency-key-invalid", "The Idempotency-Key cannot be used.", errors=[wrong])
    return key


def fingerprint(method: str, target: str, body: bytes) -> bytes:
    """What makes two requests the same."""
    return hashlib.sha256(b"\x00".join((method.encode(), target.encode(), body))).digest()


def answer_of(record: Record, asked: bytes) -> Kept:
    """The answer to give again; raises Invalid for another request, Conflict while there is no answer."""
    if record.fingerprint != asked:
        raise Invalid("idempotency-key-reused", "This Idempotency-Key was sent with another request before.")
    if record.kept is None:
        raise Conflict("idempotency-in-flight", "The first request with this Idempotency-Key is still at work.")
    return record.kept


class Outcome(Enum):
    """What a service's answer says about the request."""

    FINAL = "final"
    """This is what it will always be answered."""
    NOT_DONE = "not_done"
    """Nothing was decided about it yet."""
    UNKNOWN = "unknown"
    """The service failed, at the commit perhaps: it may or may not have been carried out."""


def outcome(status: int) -> Outcome:
    if status >= 500:
        return Outcome.UNKNOWN
    return Outcome.NOT_DONE if status in (401, 408, 429) else Outcome.FINAL
