"""Contracts: what is said about people and tokens; audit and revocation stay inside the platform."""

from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field

from dataaggregator.contracts.base import Channel, Message, Time


class UserCreated(Message):
    """Somebody may now log in."""

    event_type: ClassVar[str] = "user.created.v1"
    said_by: ClassVar[str] = "auth"
    user_id: UUID
    email: str


class UserUpdated(Message):
    """A user was changed, activated or deactivated."""

    event_type: ClassVar[str] = "user.updated.v1"
    said_by: ClassVar[str] = "auth"
    user_id: UUID
    email: str
    active: bool


class LoginFailed(Message):
    """Somebody could not log in; `reason` is the error's code."""

    event_type: ClassVar[str] = "login.failed.v1"
    said_by: ClassVar[str] = "auth"
    email: str
    address: str | None = None
    reason: str
    at: Time


class IdentityRevoked(Message):
    """Access tokens of this user, token family or token id are void until then (after that they have expired)."""

    event_type: ClassVar[str] = "identity.revoked.v1"
    said_by: ClassVar[str] = "auth"
    channel: ClassVar[Channel] = "internal"
    user_id: UUID | None = None
    family: UUID | None = None
    token_id: str | None = None
    until: Time


class AuditEntry(Message):
    """Who did what to which resource, when, from where. The event's subject is the entry's own id."""

    event_type: ClassVar[str] = "audit.entry.v1"
    said_by: ClassVar[str] = ""
    channel: ClassVar[Channel] = "internal"
    ends: ClassVar[bool] = True
    entry_id: UUID
    service: str
    action: str
    resource_type: str
    resource_id: str
    actor_id: UUID | None = None
    actor: str | None = None
    address: str | None = None
    request_id: str | None = None
    detail: dict[str, Any] = Field(default_factory=dict)
    at: Time
