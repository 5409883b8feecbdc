"""Ids: UUIDv7, minted in the application, in the order of time."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """A new UUIDv7; those of one process sort in the order they were made."""
    return uuid_utils.compat.uuid7()


def made_at(made: UUID) -> datetime | None:
    """When an id was made, to the millisecond; None for one that is no UUIDv7 (RFC 9562, 5.7)."""
    if made.version != 7:
        return None
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=made.int >> 80)
    except OverflowError:
        return None
