"""People domain: users, workspaces, members, and the one rule that no workspace loses its last admin. Pure."""

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dataaggregator.errors import Conflict, Denied
from dataaggregator.permissions import Role


@dataclass(frozen=True)
class Workspace:
    id: UUID
    name: str
    created_at: datetime
    created_by: UUID | None


@dataclass(frozen=True)
class User:
    """A person; `workspace_id` is the home, whose admins look after this account."""

    id: UUID
    workspace_id: UUID
    email: str
    name: str
    active: bool
    last_login_at: datetime | None
    created_at: datetime
    updated_at: datetime
    created_by: UUID | None
    version: int
    role: Role | None = None  # in the workspace that is looking
    service: bool = False  # a program: it has keys, and no password


@dataclass(frozen=True)
class Member:
    workspace_id: UUID
    user_id: UUID
    email: str
    name: str
    active: bool
    role: Role
    created_at: datetime


@dataclass(frozen=True)
class Changes:
    """What is to become of a user; None leaves a thing as it is."""

    email: str | None = None
    name: str | None = None
    active: bool | None = None
    role: Role | None = None
    password: str | None = None


def may_look_after(user: User, workspace: UUID) -> None:
    """Only the home workspace changes an account: a foreign admin could otherwise take it over."""
    if user.workspace_id != workspace:
        raise Denied(
            "user-of-another-workspace",
            f"The account {user.email} belongs to another workspace; here only its membership can be changed.",
        )


def has_a_password(user: User) -> None:
    """Raises Conflict for a service account."""
    if user.service:
        raise Conflict(
            "service-account", f"{user.email} is a service account: it has API keys, and no password to log in with."
        )


def keeps_an_admin(admins: Set[UUID], leaving: UUID, workspace: str) -> None:
    """Raises Conflict when `leaving` is the only active admin: nobody could let anybody in again."""
    if admins == {leaving}:
        raise Conflict(
            "last-admin",
            f"This is the last active admin of the workspace {workspace}; make somebody else admin first.",
        )


def lessens(before: Role, after: Role) -> bool:
    """Each role holds all of the one before it in the order of `Role`."""
    order = list(Role)
    return order.index(after) < order.index(before)


def ends_tokens(before: User, after: User) -> bool:
    """Tokens say roles: those given out before rights were taken must not be believed any longer.

    Rights that were given show with the next refresh; no token has to end for that.
    """
    if before.active and not after.active:
        return True
    return before.role is not None and after.role is not None and lessens(before.role, after.role)
