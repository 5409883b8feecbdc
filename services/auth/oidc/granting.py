"""Granting: the roles that a provider's groups stand for, brought about at a login."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dataaggregator.db import Connection
from dataaggregator.permissions import Role
from dataaggregator.telemetry import logs
from services.auth.apikeys import store as keys
from services.auth.audit.record import Actor, Deed, record
from services.auth.people import store as people
from services.auth.people.domain import Workspace, keeps_an_admin, lessens

log = logs.get("auth")


@dataclass(frozen=True)
class Grant:
    """In a workspace, the role to have or None for no membership."""

    workspace: Workspace
    role: Role | None


async def grants(tx: Connection, wanted: Mapping[str, Role | None]) -> list[Grant]:
    """In the order in which workspaces are locked; one that was never made is told in the log."""
    found = {name: await people.find_workspace(tx, name) for name in wanted}
    for name in (name for name, workspace in found.items() if workspace is None):
        log.warning("oidc_workspace_missing", workspace=name)
    named = [Grant(workspace, wanted[name]) for name, workspace in found.items() if workspace is not None]
    return sorted(named, key=lambda grant: grant.workspace.id)


async def bring_about(tx: Connection, grant: Grant, user_id: UUID, actor: Actor, now: datetime) -> bool:
    """Have it so; True where less is allowed than before. Raises Conflict `last-admin`."""
    workspace, before = grant.workspace, await people.role_in(tx, grant.workspace.id, user_id)
    if before == grant.role:
        return False
    if before is Role.ADMIN:
        keeps_an_admin(await people.lock_admins(tx, workspace.id), user_id, workspace.name)
    told = {"from": before, "to": grant.role}
    if grant.role is None:
        await people.remove_member(tx, workspace.id, user_id)
        await keys.remove_keys_of(tx, workspace.id, user_id)
    elif before is None:
        await people.add_member(tx, workspace.id, user_id, grant.role, now)
    else:
        await people.set_role(tx, workspace.id, user_id, grant.role)
    action = "member.removed" if grant.role is None else "member.added" if before is None else "member.changed"
    await record(tx, actor, Deed(action, "user", str(user_id), told), workspace.id, now)
    return before is not None and (grant.role is None or lessens(before, grant.role))
