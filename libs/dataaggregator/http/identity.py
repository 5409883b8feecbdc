"""Who is asking, as far as a verified token tells."""

from dataclasses import dataclass
from uuid import UUID

from dataaggregator.definition import KeyUsed
from dataaggregator.permissions import ROLE_PERMISSIONS, Permission, Role


@dataclass(frozen=True)
class Membership:
    """One workspace of a user, and the role in it."""

    workspace_id: UUID
    name: str
    role: Role


@dataclass(frozen=True)
class Identity:
    """A user with memberships, or one of our services (then ``service`` names it and ``user_id`` is None)."""

    user_id: UUID | None
    email: str | None
    service: str | None
    memberships: tuple[Membership, ...]
    default_workspace: UUID | None
    token_id: str
    family: str | None = None
    #: Of an API key: what it lets do, of what the role does; None for one who logged in.
    scopes: frozenset[Permission] | None = None
    #: That key.
    key: KeyUsed | None = None

    def membership(self, workspace: str) -> Membership | None:
        """The membership in the workspace with this id or name."""
        for membership in self.memberships:
            if workspace in (membership.name, str(membership.workspace_id)):
                return membership
        return None

    def role_in(self, workspace: UUID) -> Role | None:
        """The role in this workspace, or None."""
        for membership in self.memberships:
            if membership.workspace_id == workspace:
                return membership.role
        return None

    def permissions(self, workspace: UUID | None) -> frozenset[Permission]:
        """What this identity may do in a workspace; everybody may ask for what is their own."""
        role = None if workspace is None else self.role_in(workspace)
        held = _OWN if role is None else ROLE_PERMISSIONS[role]
        return held if self.scopes is None else held & (self.scopes | _OWN)


_OWN = frozenset({Permission.SELF})

ANONYMOUS = Identity(
    user_id=None, email=None, service=None, memberships=(), default_workspace=None, token_id="", family=None
)
