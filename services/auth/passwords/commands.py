"""Password commands: change one's own, give out a token that sets a new one, set it by that token."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from dataaggregator.bus import emit
from dataaggregator.contracts.identity import UserUpdated
from dataaggregator.db import Connection
from dataaggregator.errors import Denied, NotFound, Unauthenticated
from dataaggregator.ports import Ports
from dataaggregator.revocations import Revocation
from services.auth import SCHEMA, SERVICE
from services.auth.audit.record import Actor, Deed, record
from services.auth.people import store as people
from services.auth.people.domain import User, has_a_password, may_look_after
from services.auth.sessions import store as sessions
from services.auth.sessions.domain import Account
from services.auth.sessions.revoking import revoke_family, revoke_user
from services.auth.sessions.throttle import Throttle

from . import store
from .domain import Policy, Reset, digest, new_token
from .hashing import Passwords

OPERATOR = Actor(None, "operator", None, None)


class PasswordCommands:
    """The use cases of passwords."""

    def __init__(self, ports: Ports, passwords: Passwords, policy: Policy, throttle: Throttle) -> None:
        self._database = ports.database
        self._revocations = ports.revocations
        self._clock = ports.clock
        self._passwords = passwords
        self._policy = policy
        self._throttle = throttle
        self._access_seconds = int(ports.settings.access_token_expire_minutes * 60)
        self._reset_life = timedelta(minutes=ports.settings.password_reset_expire_minutes)

    async def change(self, actor: Actor, family: str | None, current: str, new: str) -> None:
        """Give the actor the password `new`; every login of theirs but the one that asks (`family`) ends.

        Raises Invalid `password-refused`, Denied `password-wrong` where `current` is not the one they have.
        """
        if actor.user_id is None or family is None:
            raise Denied("permission-denied", "Only somebody who is logged in can change their password.")
        async with self._database.platform() as tx:
            account = await sessions.account_of(tx, actor.user_id)
            person = await store.person_of(tx, actor.user_id)
        if account is None or person is None:
            raise Unauthenticated("token-invalid", "This account is no longer there.")
        self._policy.check(new, replace(person, before=current), "new_password")
        await self._throttle.draw(account.email)
        if not await self._passwords.verify(current, account.password_hash):
            await self._tell_wrong(actor, account)
        hashed = await self._passwords.hash(new)
        async with self._database.platform() as tx:
            # Hashing took its time: what was decided on must still be true.
            present = await sessions.account_of(tx, account.id, lock=True)
            if present is None or not present.active or present.password_hash != account.password_hash:
                raise _wrong()
            now = self._clock.now()
            await self._save(tx, present, hashed, actor, "password.changed")
            ended = [
                await revoke_family(
                    tx, other, account.id, account.workspace_id, now=now, lifetime_seconds=self._access_seconds
                )
                for other in await sessions.revoke_families_of(tx, account.id, "password", now, but=UUID(family))
            ]
        await self._obey(*ended)

    async def allow_reset(self, actor: Actor, workspace: UUID, reference: str) -> tuple[User, str, Reset]:
        """A token with which a user of this home workspace sets a new password; the one before it is void.

        The present password stays good until then, and so does everything the user has logged in with.
        """
        async with self._database.platform() as tx:
            user = await people.get_user(tx, workspace, reference, lock=True)
            may_look_after(user, workspace)
            return await self._allow_reset(tx, actor, user)

    async def allow_reset_as_operator(self, reference: str) -> tuple[User, str, Reset]:
        """The same for whoever has the machine, and for a user of whatever workspace."""
        async with self._database.platform() as tx:
            user_id = await people.find_account_id(tx, reference)
            account = await sessions.account_of(tx, user_id, lock=True) if user_id else None
            if account is None:
                raise NotFound("user-not-found", f"There is no user {reference}.")
            user = await people.get_user(tx, account.workspace_id, str(account.id))
            return await self._allow_reset(tx, OPERATOR, user)

    async def reset(self, actor: Actor, token: str, new: str) -> None:
        """Spend `token`: its user has the password `new`, and everything they were logged in with has ended.

        Raises Unauthenticated `reset-invalid`, Invalid `password-refused`; a refused password spends nothing.
        """
        async with self._database.platform() as tx:
            allowed = await store.find_reset(tx, digest(token), self._clock.now())
            person = await store.person_of(tx, allowed.user_id) if allowed else None
        if allowed is None or person is None:
            raise _spent()
        self._policy.check(new, person, "new_password")
        hashed = await self._passwords.hash(new)
        async with self._database.platform() as tx:
            account = await sessions.account_of(tx, allowed.user_id, lock=True)
            now = self._clock.now()
            if account is None or await store.find_reset(tx, allowed.digest, now) is None:
                raise _spent()
            who = Actor(account.id, account.email, actor.address, actor.request_id)
            await self._save(tx, account, hashed, who, "password.reset")
            await sessions.revoke_families_of(tx, account.id, "password", now)
            ended = await revoke_user(
                tx, account.id, account.workspace_id, now=now, lifetime_seconds=self._access_seconds
            )
        await self._obey(ended)

    async def forget_outlived(self) -> None:
        async with self._database.platform() as tx:
            await store.remove_outlived(tx, self._clock.now())

    async def _allow_reset(self, tx: Connection, actor: Actor, user: User) -> tuple[User, str, Reset]:
        has_a_password(user)
        token, now = new_token(), self._clock.now()
        reset = Reset(user.id, digest(token), now + self._reset_life)
        await store.save_reset(tx, reset, now)
        deed = Deed("password.reset_allowed", "user", str(user.id), {"expires_at": reset.expires_at.isoformat()})
        await record(tx, actor, deed, user.workspace_id, now)
        return user, token, reset

    async def _save(self, tx: Connection, account: Account, hashed: str, actor: Actor, action: str) -> None:
        now = self._clock.now()
        await store.save_hash(tx, account.id, hashed, now)
        said = UserUpdated(user_id=account.id, email=account.email, active=account.active)
        await emit(tx, SCHEMA, said, subject=str(account.id), workspace=account.workspace_id, source=SERVICE)
        await record(tx, actor, Deed(action, "user", str(account.id), {}), account.workspace_id, now)

    async def _tell_wrong(self, actor: Actor, account: Account) -> None:
        async with self._database.platform() as tx:
            deed = Deed("password.change_refused", "user", str(account.id), {"reason": "password-wrong"})
            await record(tx, actor, deed, account.workspace_id, self._clock.now())
        raise _wrong()

    async def _obey(self, *ended: Revocation) -> None:
        for revocation in ended:
            await self._revocations.revoke(revocation)


def _wrong() -> Denied:
    return Denied("password-wrong", "The present password is not right.")


def _spent() -> Unauthenticated:
    return Unauthenticated("reset-invalid", "This token sets no password: it was used, replaced, or has run out.")
