"""API key domain: what a key lets do and until when. Pure."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from dataaggregator.errors import Denied, FieldError, Invalid
from dataaggregator.permissions import ROLE_PERMISSIONS, Permission, Role

LIFE = timedelta(days=90)
LONGEST = timedelta(days=366)
HINT = 8


@dataclass(frozen=True)
class ApiKey:
    """A key as stored, by its digest: `hint` is how it begins, which tells it from others and opens nothing."""

    id: UUID
    workspace_id: UUID
    user_id: UUID
    email: str
    name: str
    hint: str
    scopes: tuple[Permission, ...]
    created_at: datetime
    created_by: UUID | None
    expires_at: datetime
    last_used_at: datetime | None


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def end_of(wished: datetime | None, now: datetime) -> datetime:
    """When a key ends; raises Invalid for what is past or too far off."""
    if wished is None:
        return now + LIFE
    if not now < wished <= now + LONGEST:
        message = f"should be in the future, and no more than {LONGEST.days} days off"
        raise Invalid("body-invalid", f"expires_at: {message}.", errors=[FieldError("expires_at", message, "expiry")])
    return wished


def check_scopes(scopes: tuple[Permission, ...], role: Role) -> None:
    """Raises Invalid that names every scope which the owner's role does not hold: such a key would promise too much."""
    beyond = [
        FieldError(f"scopes[{place}]", f"the role {role} does not hold {scope}", "scope-beyond-role")
        for place, scope in enumerate(scopes)
        if scope not in ROLE_PERMISSIONS[role]
    ]
    if beyond:
        raise Invalid("body-invalid", "; ".join(error.message for error in beyond) + ".", errors=beyond)


def may_own(asking: UUID | None, owner: UUID, *, service: bool) -> None:
    """A key speaks in the name of its owner, and nobody makes one that speaks for another person."""
    if owner != asking and not service:
        raise Denied(
            "api-key-for-another", "A key is made for yourself or for a service account, not for another user."
        )
