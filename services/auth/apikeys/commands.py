"""API key commands: make one, take one back, and give an access token for one."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dataaggregator import api_keys
from dataaggregator.errors import Denied, NotFound
from dataaggregator.ids import new_id
from dataaggregator.permissions import Permission
from dataaggregator.ports import Ports
from services.auth.audit.record import Actor, Deed, record
from services.auth.keys.signing import SigningKeys
from services.auth.people import store as people
from services.auth.sessions import store as sessions
from services.auth.sessions.domain import Grant, claims
from services.auth.sessions.revoking import revoke_family

from . import store
from .domain import HINT, ApiKey, check_scopes, digest, end_of, may_own


@dataclass(frozen=True)
class NewKey:
    """`owner` is an id or e-mail, or None for whoever asks."""

    name: str
    scopes: tuple[Permission, ...]
    owner: str | None
    expires_at: datetime | None


class ApiKeys:
    """The use cases of API keys."""

    def __init__(self, ports: Ports, signing: SigningKeys) -> None:
        self._database = ports.database
        self._revocations = ports.revocations
        self._clock = ports.clock
        self._signing = signing
        self._access_seconds = int(ports.settings.access_token_expire_minutes * 60)

    async def create_key(self, actor: Actor, workspace: UUID, new: NewKey) -> tuple[ApiKey, str]:
        """The key as it is kept, and itself; raises Denied, Conflict `already-exists`, Invalid for its fields."""
        if actor.user_id is None:
            raise Denied("permission-denied", "Only a user can make a key.")
        now, key = self._clock.now(), api_keys.new_key()
        async with self._database.platform() as tx:
            owner = await people.get_user(tx, workspace, new.owner or str(actor.user_id), lock=True)
            may_own(actor.user_id, owner.id, service=owner.service)
            if owner.role is None:
                raise Denied("no-workspace", f"{owner.email} is not a member of this workspace.")
            check_scopes(new.scopes, owner.role)
            kept = ApiKey(
                id=new_id(),
                workspace_id=workspace,
                user_id=owner.id,
                email=owner.email,
                name=new.name,
                hint=key[:HINT],
                scopes=new.scopes,
                created_at=now,
                created_by=actor.user_id,
                expires_at=end_of(new.expires_at, now),
                last_used_at=None,
            )
            await store.add_key(tx, kept, digest(key))
            detail = {"owner": owner.email, "scopes": list(new.scopes), "expires_at": kept.expires_at.isoformat()}
            await record(tx, actor, Deed("api_key.created", "api_key", str(kept.id), detail), workspace, now)
        return kept, key

    async def get_key(self, workspace: UUID, reference: str) -> ApiKey:
        async with self._database.platform() as tx:
            return await store.get_key(tx, workspace, reference)

    async def list_keys(self, workspace: UUID, after: UUID | None, limit: int) -> list[ApiKey]:
        async with self._database.platform() as tx:
            return await store.list_keys(tx, workspace, after, limit)

    async def remove_key(self, actor: Actor, workspace: UUID, reference: str) -> None:
        """Take a key back, and every token that was given out for it."""
        async with self._database.platform() as tx:
            key = await store.get_key(tx, workspace, reference, lock=True)
            now = self._clock.now()
            await store.remove_key(tx, key.id)
            revocation = await revoke_family(
                tx, key.id, key.user_id, workspace, now=now, lifetime_seconds=self._access_seconds
            )
            deed = Deed("api_key.removed", "api_key", str(key.id), {"name": key.name, "owner": key.email})
            await record(tx, actor, deed, workspace, now)
        await self._revocations.revoke(revocation)

    async def exchange(self, key: str) -> tuple[str, datetime]:
        """An access token that says what `key` lets do now, and its end; raises NotFound `api-key-invalid`."""
        async with self._database.platform() as tx:
            found = await store.find_by_digest(tx, digest(key))
            # The user before the key, as whoever removes the user does it.
            account = await sessions.account_of(tx, found.user_id, lock=True) if found else None
            kept = await store.find_by_digest(tx, digest(key), lock=True)
            now = self._clock.now()  # under the locks: later than any revocation that has been written down
            if kept is None or kept.expires_at <= now:
                raise _invalid()
            memberships = [
                one for one in await sessions.memberships(tx, kept.user_id) if one.workspace_id == kept.workspace_id
            ]
            if account is None or not account.active or not memberships:
                raise _invalid()
            await store.note_use(tx, kept.id, now)
        seconds = min(self._access_seconds, int((kept.expires_at - now).total_seconds()))
        grant = Grant(account.id, account.email, kept.id, kept.workspace_id, memberships)
        said = claims(grant, new_id(), now, seconds) | {
            "key": str(kept.id),
            "key_name": kept.name,
            "scp": list(kept.scopes),
        }
        return self._signing.sign(said), datetime.fromtimestamp(int(now.timestamp()) + seconds, now.tzinfo)


def _invalid() -> NotFound:
    return NotFound("api-key-invalid", "This API key is not valid: it was taken back, has run out, or is wrong.")
