"""Ids: UUIDv7, minted in the application, in the order of time."""

from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """A new UUIDv7; those of one process sort in the order they were made."""
    return uuid_utils.compat.uuid7()
