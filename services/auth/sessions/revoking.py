"""Ending what was given out: written down first, told to the other services, then obeyed here."""

from datetime import datetime, timedelta
from uuid import UUID

from dataaggregator.bus import emit
from dataaggregator.contracts.identity import IdentityRevoked
from dataaggregator.db import Connection
from dataaggregator.revocations import Revocation
from services.auth import SCHEMA, SERVICE

from . import store

# Verifiers allow for clocks that differ a little.
LEEWAY_SECONDS = 60


async def revoke_family(
    tx: Connection, family_id: UUID, user_id: UUID, workspace: UUID, *, now: datetime, lifetime_seconds: int
) -> Revocation:
    """All access tokens of one login are void; the caller hands the answer to Revocations after the commit."""
    until = now + timedelta(seconds=lifetime_seconds + LEEWAY_SECONDS)
    revocation = Revocation("family", str(family_id), now, until)
    await store.add_revocation(tx, revocation)
    message = IdentityRevoked(user_id=user_id, family=family_id, until=until)
    await emit(tx, SCHEMA, message, subject=str(user_id), workspace=workspace, source=SERVICE)
    return revocation


async def revoke_user(
    tx: Connection, user_id: UUID, workspace: UUID, *, now: datetime, lifetime_seconds: int
) -> Revocation:
    """All access tokens a user holds are void; a refresh (where still allowed) gives one that says what is true now."""
    until = now + timedelta(seconds=lifetime_seconds + LEEWAY_SECONDS)
    revocation = Revocation("user", str(user_id), now, until)
    await store.add_revocation(tx, revocation)
    message = IdentityRevoked(user_id=user_id, until=until)
    await emit(tx, SCHEMA, message, subject=str(user_id), workspace=workspace, source=SERVICE)
    return revocation
