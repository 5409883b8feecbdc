"""People store: all SQL over users, workspaces and members."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from dataaggregator.db import Connection
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.permissions import Role
from services.auth.sessions.domain import email_key

from .domain import Member, User, Workspace

_USER = """
SELECT u.id, u.workspace_id, u.email, u.name, u.active, u.last_login_at, u.created_at, u.updated_at, u.created_by,
       u.version, u.service, m.role
FROM auth.users u LEFT JOIN auth.members m ON m.user_id = u.id AND m.workspace_id = $1
WHERE (u.workspace_id = $1 OR m.user_id IS NOT NULL)
"""


def _user(row: asyncpg.Record) -> User:
    return User(**{**dict(row), "role": Role(row["role"]) if row["role"] else None})


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def find_user(tx: Connection, workspace: UUID, reference: str, *, lock: bool = False) -> User | None:
    """The user with this id or e-mail, if `workspace` is the home or has the user as a member."""
    query = f"{_USER} AND (u.id = $2 OR u.email_key = $3) {'FOR UPDATE OF u' if lock else ''}"
    row = await tx.fetchrow(query, workspace, _as_uuid(reference), email_key(reference))
    return _user(row) if row else None


async def get_user(tx: Connection, workspace: UUID, reference: str, *, lock: bool = False) -> User:
    user = await find_user(tx, workspace, reference, lock=lock)
    if user is None:
        raise NotFound("user-not-found", f"There is no user {reference} in this workspace.")
    return user


async def list_users(tx: Connection, workspace: UUID, after: UUID | None, limit: int) -> list[User]:
    """Users in the order they were made, `limit` of those after the id `after`."""
    rows = await tx.fetch(
        f"{_USER} AND ($2::uuid IS NULL OR u.id > $2) ORDER BY u.id LIMIT $3", workspace, after, limit
    )
    return [_user(row) for row in rows]


async def add_user(tx: Connection, user: User, password_hash: str | None) -> None:
    try:
        async with tx.transaction():
            await tx.execute(
                """INSERT INTO auth.users (id, workspace_id, email, email_key, name, password_hash, active, created_at,
                                           updated_at, created_by, version, service)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)""",
                user.id,
                user.workspace_id,
                user.email,
                email_key(user.email),
                user.name,
                password_hash,
                user.active,
                user.created_at,
                user.updated_at,
                user.created_by,
                user.version,
                user.service,
            )
    except asyncpg.UniqueViolationError:
        raise _taken(user.email) from None


async def save_user(tx: Connection, user: User, password_hash: str | None) -> None:
    """Write `user` down; without a new hash the password stays."""
    try:
        async with tx.transaction():
            await tx.execute(
                """UPDATE auth.users SET email = $2, email_key = $3, name = $4, active = $5, updated_at = $6,
                          version = $7, password_hash = COALESCE($8, password_hash) WHERE id = $1""",
                user.id,
                user.email,
                email_key(user.email),
                user.name,
                user.active,
                user.updated_at,
                user.version,
                password_hash,
            )
    except asyncpg.UniqueViolationError:
        raise _taken(user.email) from None


def _taken(email: str) -> Conflict:
    return Conflict("email-taken", f"There is already a user with the e-mail {email}.")


async def remove_user(tx: Connection, user_id: UUID) -> None:
    await tx.execute("DELETE FROM auth.users WHERE id = $1", user_id)


async def any_user(tx: Connection) -> bool:
    return bool(await tx.fetchval("SELECT EXISTS (SELECT FROM auth.users)"))


async def find_account_id(tx: Connection, reference: str) -> UUID | None:
    """The id behind an id or e-mail, of whatever workspace: for letting somebody in, who stays until then."""
    found: UUID | None = await tx.fetchval(
        "SELECT id FROM auth.users WHERE id = $1 OR email_key = $2 FOR KEY SHARE",
        _as_uuid(reference),
        email_key(reference),
    )
    return found


async def add_workspace(tx: Connection, workspace: Workspace) -> None:
    try:
        async with tx.transaction():
            await tx.execute(
                "INSERT INTO auth.workspaces (id, name, created_at, created_by) VALUES ($1, $2, $3, $4)",
                workspace.id,
                workspace.name,
                workspace.created_at,
                workspace.created_by,
            )
    except asyncpg.UniqueViolationError:
        raise Conflict("already-exists", f"There is already a workspace {workspace.name}.") from None


async def ensure_workspace(tx: Connection, workspace: Workspace) -> Workspace:
    """The workspace of that name, made if it is not there; whoever comes second waits for the first."""
    await tx.execute(
        """INSERT INTO auth.workspaces (id, name, created_at, created_by) VALUES ($1, $2, $3, $4)
           ON CONFLICT (name) DO NOTHING""",
        workspace.id,
        workspace.name,
        workspace.created_at,
        workspace.created_by,
    )
    row = await tx.fetchrow(
        "SELECT id, name, created_at, created_by FROM auth.workspaces WHERE name = $1 FOR UPDATE", workspace.name
    )
    return Workspace(**dict(row)) if row else workspace


async def find_workspace(tx: Connection, reference: str) -> Workspace | None:
    """The workspace with this id or name."""
    row = await tx.fetchrow(
        """SELECT id, name, created_at, created_by FROM auth.workspaces WHERE id = $1 OR name = $2
           ORDER BY id = $1 DESC NULLS LAST LIMIT 1""",
        _as_uuid(reference),
        reference,
    )
    return Workspace(**dict(row)) if row else None


async def list_workspaces(
    tx: Connection, user_id: UUID, after: UUID | None, limit: int
) -> list[tuple[Workspace, Role]]:
    """The workspaces `user_id` is a member of, with the role there."""
    rows = await tx.fetch(
        """SELECT w.id, w.name, w.created_at, w.created_by, m.role
           FROM auth.workspaces w JOIN auth.members m ON m.workspace_id = w.id
           WHERE m.user_id = $1 AND ($2::uuid IS NULL OR w.id > $2) ORDER BY w.id LIMIT $3""",
        user_id,
        after,
        limit,
    )
    return [
        (Workspace(row["id"], row["name"], row["created_at"], row["created_by"]), Role(row["role"])) for row in rows
    ]


async def role_in(tx: Connection, workspace: UUID, user_id: UUID) -> Role | None:
    role = await tx.fetchval(
        "SELECT role FROM auth.members WHERE workspace_id = $1 AND user_id = $2", workspace, user_id
    )
    return Role(role) if role else None


_MEMBER = """
SELECT m.workspace_id, m.user_id, u.email, u.name, u.active, m.role, m.created_at
FROM auth.members m JOIN auth.users u ON u.id = m.user_id WHERE m.workspace_id = $1
"""


def _member(row: asyncpg.Record) -> Member:
    return Member(**{**dict(row), "role": Role(row["role"])})


async def get_member(tx: Connection, workspace: UUID, reference: str) -> Member:
    row = await tx.fetchrow(
        f"{_MEMBER} AND (u.id = $2 OR u.email_key = $3)", workspace, _as_uuid(reference), email_key(reference)
    )
    if row is None:
        raise NotFound("member-not-found", f"{reference} is not a member of this workspace.")
    return _member(row)


async def list_members(tx: Connection, workspace: UUID, after: UUID | None, limit: int) -> Sequence[Member]:
    rows = await tx.fetch(
        f"{_MEMBER} AND ($2::uuid IS NULL OR m.user_id > $2) ORDER BY m.user_id LIMIT $3", workspace, after, limit
    )
    return [_member(row) for row in rows]


async def add_member(tx: Connection, workspace: UUID, user_id: UUID, role: Role, now: datetime) -> bool:
    """Let `user_id` in; False when already a member."""
    added = await tx.fetchval(
        """INSERT INTO auth.members (workspace_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)
           ON CONFLICT DO NOTHING RETURNING true""",
        workspace,
        user_id,
        role.value,
        now,
    )
    return added is not None


async def set_role(tx: Connection, workspace: UUID, user_id: UUID, role: Role) -> None:
    await tx.execute(
        "UPDATE auth.members SET role = $3 WHERE workspace_id = $1 AND user_id = $2", workspace, user_id, role.value
    )


async def remove_member(tx: Connection, workspace: UUID, user_id: UUID) -> None:
    await tx.execute("DELETE FROM auth.members WHERE workspace_id = $1 AND user_id = $2", workspace, user_id)


async def lock_admins(tx: Connection, workspace: UUID) -> frozenset[UUID]:
    """The active admins of `workspace` who can log in: they stay who they are until this transaction ends."""
    await tx.execute("SELECT FROM auth.workspaces WHERE id = $1 FOR UPDATE", workspace)
    rows = await tx.fetch(
        """SELECT m.user_id FROM auth.members m JOIN auth.users u ON u.id = m.user_id
           WHERE m.workspace_id = $1 AND m.role = 'admin' AND u.active AND NOT u.service""",
        workspace,
    )
    return frozenset(row["user_id"] for row in rows)


async def administered(tx: Connection, user_id: UUID) -> list[Workspace]:
    """The workspaces where `user_id` is admin, in the order in which they are locked."""
    rows = await tx.fetch(
        """SELECT w.id, w.name, w.created_at, w.created_by FROM auth.workspaces w
           JOIN auth.members m ON m.workspace_id = w.id
           WHERE m.user_id = $1 AND m.role = 'admin' ORDER BY w.id""",
        user_id,
    )
    return [Workspace(**dict(row)) for row in rows]
