"""Who may do what: the permissions, the roles of a workspace, and the table between them."""

from enum import StrEnum

DEFAULT_WORKSPACE = "default"
"""The workspace of the first administrator: there from the first start, never renamed. Its administrators also look
after what belongs to no workspace."""


class Permission(StrEnum):
    """What a route asks of its caller in the workspace of the call."""

    SELF = "self"
    DEFINITIONS_READ = "definitions:read"
    DEFINITIONS_WRITE = "definitions:write"
    RUNS_READ = "runs:read"
    RUNS_OPERATE = "runs:operate"
    DATA_READ = "data:read"
    SOURCE_QUERY = "source:query"
    IDENTITY_ADMIN = "identity:admin"
    PLATFORM_ADMIN = "platform:admin"


class Role(StrEnum):
    """A member's role in one workspace, each holding all of the one before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    EDITOR = "editor"
    ADMIN = "admin"


_VIEWER = frozenset({Permission.SELF, Permission.DEFINITIONS_READ, Permission.RUNS_READ})
_OPERATOR = _VIEWER | {Permission.RUNS_OPERATE}
_EDITOR = _OPERATOR | {Permission.DEFINITIONS_WRITE, Permission.DATA_READ, Permission.SOURCE_QUERY}

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.EDITOR: _EDITOR,
    Role.ADMIN: frozenset(Permission),
}
