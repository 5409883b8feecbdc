"""People commands: users made, changed, deactivated, removed; workspaces made; members let in and out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from dataaggregator.bus import emit
from dataaggregator.contracts.identity import UserCreated, UserUpdated
from dataaggregator.db import Connection
from dataaggregator.errors import Conflict, Denied, NotFound
from dataaggregator.http import etag
from dataaggregator.ids import new_id
from dataaggregator.permissions import DEFAULT_WORKSPACE, Role
from dataaggregator.ports import Ports
from dataaggregator.revocations import Revocation
from services.auth import SCHEMA, SERVICE
from services.auth.apikeys import store as keys
from services.auth.audit.record import Actor, Deed, record
from services.auth.passwords import store as passwords_store
from services.auth.passwords.domain import Person, Policy
from services.auth.passwords.hashing import Passwords
from services.auth.sessions import store as sessions
from services.auth.sessions.revoking import revoke_user

from . import store
from .domain import (
    Changes,
    Member,
    User,
    Workspace,
    ends_tokens,
    has_a_password,
    keeps_an_admin,
    lessens,
    may_look_after,
)


@dataclass(frozen=True)
class NewUser:
    email: str
    name: str
    password: str | None
    role: Role
    active: bool


class People:
    """The use cases of users, workspaces and members; `actor` is who asks, `workspace` where."""

    def __init__(self, ports: Ports, passwords: Passwords, policy: Policy) -> None:
        self._database = ports.database
        self._revocations = ports.revocations
        self._clock = ports.clock
        self._passwords = passwords
        self._policy = policy
        self._access_seconds = int(ports.settings.access_token_expire_minutes * 60)

    # -- users

    async def get_user(self, workspace: UUID, reference: str) -> User:
        async with self._database.platform() as tx:
            return await store.get_user(tx, workspace, reference)

    async def list_users(self, workspace: UUID, after: UUID | None, limit: int) -> list[User]:
        async with self._database.platform() as tx:
            return await store.list_users(tx, workspace, after, limit)

    async def create_user(self, actor: Actor, workspace: UUID, new: NewUser) -> User:
        """Make a user whose home is `workspace`, a member of it: a service account if without a password.

        Raises Conflict `email-taken`, Invalid `password-refused`.
        """
        hashed = None
        if new.password is not None:
            self._policy.check(new.password, Person(new.email, new.name))
            hashed = await self._passwords.hash(new.password)
        now = self._clock.now()
        user = User(
            id=new_id(),
            workspace_id=workspace,
            email=new.email.strip(),
            name=new.name,
            active=new.active,
            last_login_at=None,
            created_at=now,
            updated_at=now,
            created_by=actor.user_id,
            version=1,
            role=new.role,
            service=new.password is None,
        )
        async with self._database.platform() as tx:
            await store.add_user(tx, user, hashed)
            await store.add_member(tx, workspace, user.id, new.role, now)
            said = UserCreated(user_id=user.id, email=user.email)
            await emit(tx, SCHEMA, said, subject=str(user.id), workspace=workspace, source=SERVICE)
            await self._record(tx, actor, workspace, ("user.created", user.id, {"role": new.role.value}))
        return user

    async def change_user(
        self, actor: Actor, workspace: UUID, reference: str, changes: Changes, if_match: str | None
    ) -> User:
        """Change a user of this home workspace; what tokens say is void at once where it is no longer true."""
        hashed = await self._hashed(workspace, reference, changes)
        async with self._database.platform() as tx:
            before = await store.get_user(tx, workspace, reference, lock=True)
            may_look_after(before, workspace)
            etag.check(if_match, before.version)
            after = _changed(before, changes)
            if after == before and hashed is None:
                return before
            await self._keep_admins(tx, before, after)
            now = self._clock.now()
            after = replace(after, updated_at=now, version=before.version + 1)
            await store.save_user(tx, after, hashed)
            if hashed:
                await passwords_store.remove_reset(tx, after.id)
            if after.role is not None and after.role != before.role:
                await store.add_member(tx, workspace, after.id, after.role, now)
                await store.set_role(tx, workspace, after.id, after.role)
            if not after.active or hashed:
                await sessions.revoke_families_of(tx, after.id, "deactivated" if not after.active else "password", now)
            revocation = None
            if ends_tokens(before, after) or hashed:
                revocation = await self._end_tokens(tx, after.id, workspace)
            await self._say_updated(tx, after)
            await self._record(tx, actor, workspace, ("user.updated", after.id, _told(before, after, bool(hashed))))
        await self._obey(revocation)
        return after

    async def remove_user(self, actor: Actor, workspace: UUID, reference: str, if_match: str | None) -> None:
        """Remove a user of this home workspace with all memberships and tokens."""
        async with self._database.platform() as tx:
            user = await store.get_user(tx, workspace, reference, lock=True)
            may_look_after(user, workspace)
            etag.check(if_match, user.version)
            gone = replace(user, active=False)
            await self._keep_admins(tx, user, gone)
            revocation = await self._end_tokens(tx, user.id, workspace)
            await store.remove_user(tx, user.id)
            await self._say_updated(tx, gone)
            await self._record(tx, actor, workspace, ("user.removed", user.id, {"email": user.email}))
        await self._obey(revocation)

    # -- workspaces and members

    async def list_workspaces(self, user_id: UUID, after: UUID | None, limit: int) -> list[tuple[Workspace, Role]]:
        async with self._database.platform() as tx:
            return await store.list_workspaces(tx, user_id, after, limit)

    async def create_workspace(self, actor: Actor, name: str) -> Workspace:
        """Make a workspace; who makes it is its first admin."""
        if actor.user_id is None:
            raise Denied("permission-denied", "Only a user can make a workspace.")
        async with self._database.platform() as tx:
            now = self._clock.now()
            workspace = Workspace(new_id(), name, now, actor.user_id)
            await store.add_workspace(tx, workspace)
            await store.add_member(tx, workspace.id, actor.user_id, Role.ADMIN, now)
            deed = Deed("workspace.created", "workspace", str(workspace.id), {"name": name})
            await record(tx, actor, deed, workspace.id, now)
        return workspace

    async def get_workspace(self, actor: Actor, reference: str) -> tuple[Workspace, Role]:
        """A workspace the actor is a member of; any other is not there."""
        async with self._database.platform() as tx:
            return await self._visible(tx, actor, reference)

    async def list_members(self, actor: Actor, reference: str, after: UUID | None, limit: int) -> Sequence[Member]:
        async with self._database.platform() as tx:
            workspace = await self._administered(tx, actor, reference)
            return await store.list_members(tx, workspace.id, after, limit)

    async def add_member(self, actor: Actor, reference: str, user: str, role: Role) -> Member:
        """Let an existing user in; raises Conflict `already-member`."""
        async with self._database.platform() as tx:
            workspace = await self._administered(tx, actor, reference)
            user_id = await store.find_account_id(tx, user)
            if user_id is None:
                raise NotFound("user-not-found", f"There is no user {user}.")
            if not await store.add_member(tx, workspace.id, user_id, role, self._clock.now()):
                raise Conflict("already-member", f"{user} is already a member of the workspace {workspace.name}.")
            await self._record(tx, actor, workspace.id, ("member.added", user_id, {"role": role.value}))
            return await store.get_member(tx, workspace.id, str(user_id))

    async def change_member(self, actor: Actor, reference: str, user: str, role: Role) -> Member:
        async with self._database.platform() as tx:
            workspace = await self._administered(tx, actor, reference)
            found = await store.get_member(tx, workspace.id, user)
            await sessions.account_of(tx, found.user_id, lock=True)
            admins = await store.lock_admins(tx, workspace.id)
            member = await store.get_member(tx, workspace.id, str(found.user_id))
            if member.role == role:
                return member
            if role is not Role.ADMIN:
                keeps_an_admin(admins, member.user_id, workspace.name)
            await store.set_role(tx, workspace.id, member.user_id, role)
            revocation = None
            if lessens(member.role, role):
                revocation = await self._end_tokens(tx, member.user_id, workspace.id)
            told = {"from": member.role.value, "to": role.value}
            await self._record(tx, actor, workspace.id, ("member.changed", member.user_id, told))
        await self._obey(revocation)
        return replace(member, role=role)

    async def remove_member(self, actor: Actor, reference: str, user: str) -> None:
        async with self._database.platform() as tx:
            workspace = await self._administered(tx, actor, reference)
            member = await store.get_member(tx, workspace.id, user)
            await sessions.account_of(tx, member.user_id, lock=True)
            keeps_an_admin(await store.lock_admins(tx, workspace.id), member.user_id, workspace.name)
            await store.remove_member(tx, workspace.id, member.user_id)
            await keys.remove_keys_of(tx, workspace.id, member.user_id)
            revocation = await self._end_tokens(tx, member.user_id, workspace.id)
            await self._record(tx, actor, workspace.id, ("member.removed", member.user_id, {}))
        await self._obey(revocation)

    # -- first start

    async def bootstrap(self, email: str | None, password: str | None) -> bool:
        """Make the workspace `default` and its admin where there is no user yet; True if one was made."""
        hashed = await self._passwords.hash(password) if email and password else None
        now = self._clock.now()
        async with self._database.platform() as tx:
            home = await store.ensure_workspace(tx, Workspace(new_id(), DEFAULT_WORKSPACE, now, None))
            if email is None or hashed is None or await store.any_user(tx):
                return False
            self._policy.check(password or "", Person(email), "BOOTSTRAP_ADMIN_PASSWORD")
            user = User(new_id(), home.id, email.strip(), "Administrator", True, None, now, now, None, 1, Role.ADMIN)
            await store.add_user(tx, user, hashed)
            await store.add_member(tx, home.id, user.id, Role.ADMIN, now)
            said = UserCreated(user_id=user.id, email=user.email)
            await emit(tx, SCHEMA, said, subject=str(user.id), workspace=home.id, source=SERVICE)
            actor = Actor(None, "bootstrap", None, None)
            await self._record(tx, actor, home.id, ("user.created", user.id, {"role": Role.ADMIN.value}))
        return True

    # -- shared steps

    async def _hashed(self, workspace: UUID, reference: str, changes: Changes) -> str | None:
        """The hash of the password that `changes` gives, if one that may be taken."""
        if changes.password is None:
            return None
        user = _changed(await self.get_user(workspace, reference), changes)
        has_a_password(user)
        self._policy.check(changes.password, Person(user.email, user.name))
        return await self._passwords.hash(changes.password)

    async def _visible(self, tx: Connection, actor: Actor, reference: str) -> tuple[Workspace, Role]:
        workspace = await store.find_workspace(tx, reference)
        role = await store.role_in(tx, workspace.id, actor.user_id) if workspace and actor.user_id else None
        if workspace is None or role is None:
            raise NotFound("workspace-not-found", f"There is no workspace {reference} you are a member of.")
        return workspace, role

    async def _administered(self, tx: Connection, actor: Actor, reference: str) -> Workspace:
        workspace, role = await self._visible(tx, actor, reference)
        if role is not Role.ADMIN:
            raise Denied("permission-denied", f"This needs the role admin in the workspace {workspace.name}.")
        return workspace

    async def _keep_admins(self, tx: Connection, before: User, after: User) -> None:
        """Deactivating counts in every workspace, a lesser role only in the home."""
        if before.active and not after.active:
            for workspace in await store.administered(tx, before.id):
                keeps_an_admin(await store.lock_admins(tx, workspace.id), before.id, workspace.name)
        elif before.role is Role.ADMIN and after.role is not Role.ADMIN:
            home = await store.find_workspace(tx, str(before.workspace_id))
            admins = await store.lock_admins(tx, before.workspace_id)
            keeps_an_admin(admins, before.id, home.name if home else str(before.workspace_id))

    async def _say_updated(self, tx: Connection, user: User) -> None:
        said = UserUpdated(user_id=user.id, email=user.email, active=user.active)
        await emit(tx, SCHEMA, said, subject=str(user.id), workspace=user.workspace_id, source=SERVICE)

    async def _record(
        self, tx: Connection, actor: Actor, workspace: UUID, deed: tuple[str, UUID, dict[str, Any]]
    ) -> None:
        action, user_id, detail = deed
        await record(tx, actor, Deed(action, "user", str(user_id), detail), workspace, self._clock.now())

    async def _end_tokens(self, tx: Connection, user_id: UUID, workspace: UUID) -> Revocation:
        """Under the lock on the user, so that the time is later than that of any token given out before."""
        return await revoke_user(tx, user_id, workspace, now=self._clock.now(), lifetime_seconds=self._access_seconds)

    async def _obey(self, revocation: Revocation | None) -> None:
        if revocation is not None:
            await self._revocations.revoke(revocation)


def _changed(user: User, changes: Changes) -> User:
    return replace(
        user,
        email=user.email if changes.email is None else changes.email.strip(),
        name=user.name if changes.name is None else changes.name,
        active=user.active if changes.active is None else changes.active,
        role=user.role if changes.role is None else changes.role,
    )


def _told(before: User, after: User, password: bool) -> dict[str, Any]:
    """What changed, by name; a password only as the fact."""
    told = {
        name: {"from": getattr(before, name), "to": getattr(after, name)}
        for name in ("email", "name", "active", "role")
        if getattr(before, name) != getattr(after, name)
    }
    return told | ({"password": "changed"} if password else {})
