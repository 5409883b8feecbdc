"""Session commands: log in, refresh, log out, load what is revoked."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from dataaggregator.bus import emit
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.contracts.identity import LoginFailed
from dataaggregator.db import Connection
from dataaggregator.errors import Denied, NotFound, Unauthenticated
from dataaggregator.ids import new_id
from dataaggregator.ports import Ports
from dataaggregator.revocations import Revocation
from dataaggregator.telemetry import metrics
from services.auth import SCHEMA, SERVICE
from services.auth.audit.record import Actor, Deed, record
from services.auth.keys.signing import SigningKeys
from services.auth.oidc import store as oidc
from services.auth.passwords.hashing import Passwords

from . import store
from .domain import (
    SEAL_BYTES,
    SPENT_KEPT_SECONDS,
    Account,
    Family,
    Grant,
    Lives,
    RefreshToken,
    Use,
    claimed_family,
    claims,
    digest,
    first_secret,
    forgotten,
    judge,
    marked,
    successor,
)
from .revoking import revoke_family
from .throttle import Throttle

NONCE_BYTES = 16
# Far longer than a commit takes, and than the clocks of two replicas differ.
RECENT_SECONDS = 120
_AFTER_THE_RIGHT_PASSWORD = {
    "user-inactive": "This account is deactivated; ask an administrator to activate it.",
    "password-login-off": "This account logs in by the identity provider: begin with GET /api/auth/oidc/login.",
}


@dataclass(frozen=True)
class Pair:
    """What a client holds; `expires_in` is the access token's life in seconds, `goes_on` the login's without a use.

    Of a browser's `family` the refresh token is the session that its cookie carries.
    """

    access_token: str
    refresh_token: str
    expires_in: int
    goes_on: int
    family: UUID


class Sessions:
    """The use cases of sessions."""

    def __init__(self, ports: Ports, keys: SigningKeys, passwords: Passwords, throttle: Throttle) -> None:
        self._database = ports.database
        self._revocations = ports.revocations
        self._clock = ports.clock
        self._keys = keys
        self._passwords = passwords
        self._throttle = throttle
        # Foresees refresh tokens.
        self._successor = ports.keys.derive("refresh-successor")
        self._access_seconds = int(ports.settings.access_token_expire_minutes * 60)
        idle, whole = ports.settings.refresh_token_expire_days, ports.settings.session_expire_days
        self._lives = Lives(timedelta(days=idle), timedelta(days=whole))
        # Whose people log in there and with no password.
        self._only_issuer = ports.settings.oidc_issuer if ports.settings.oidc_only else None

    async def login(self, email: str, password: str, actor: Actor, *, browser: bool = False) -> Pair:
        """A pair for the right password of an active account.

        Raises Unauthenticated `invalid-credentials` alike for wrong e-mail and wrong password, Denied
        `user-inactive` or `password-login-off` only after the right password, RateLimited after too many
        attempts on the account.
        """
        await self._throttle.draw(email)
        async with self._database.platform() as tx:
            account = await store.find_account(tx, email)
        right = await self._passwords.verify(password, account.password_hash if account else None)
        if account is None or not right:
            await self._fail(email, account, "invalid-credentials", actor)
        if not account.active:
            await self._fail(email, account, "user-inactive", actor)
        if await self._comes_by_provider(account):
            await self._fail(email, account, "password-login-off", actor)
        outdated = account.password_hash is not None and self._passwords.outdated(account.password_hash)
        rehashed = await self._passwords.hash(password) if outdated else None
        return await self._begin(account, rehashed, actor, browser=browser)

    async def begin(
        self, tx: Connection, account: Account, actor: Actor, detail: dict[str, Any], now: datetime, *, browser: bool
    ) -> Pair:
        """A login of an account that is locked, whichever way it was proved; `detail` is for the audit."""
        seal = None if browser else secrets.token_bytes(SEAL_BYTES)
        family = self._lives.prolonged(Family(new_id(), account.id, now, now, None, browser, seal), now)
        token = marked(family, first_secret())
        await store.add_family(tx, family)
        await store.add_token(tx, _new(token, family), now)
        who = Actor(account.id, account.email, actor.address, actor.request_id)
        deed = Deed("session.begun", "user", str(account.id), detail)
        await record(tx, who, deed, account.workspace_id, now)
        return await self._pair(tx, account, family, token, now)

    async def refresh(self, token: str) -> Pair:
        """The next pair of a family; raises Unauthenticated `refresh-invalid`, or `refresh-reused` for a stolen one."""
        async with self._database.platform() as tx:
            account, stored = await _presented(tx, token)
            now = self._clock.now()  # under the locks: later than any revocation that has been written down
            use = Use.ENDED if stored is None else judge(stored, self._lives, now)
            if stored is None or account is None or not account.active or use is Use.ENDED or stored.family.browser:
                raise Unauthenticated("refresh-invalid", "The refresh token is not valid any more; log in again.")
            if use is not Use.REUSE:
                secret, family = successor(self._successor, token, stored.nonce), stored.family
                following = marked(family, secret)
                if use is Use.ROTATE:
                    family = await self._rotate(tx, stored, following, now)
                elif not await store.is_stored(tx, digest(following)):
                    following = secret  # it was given by a version that did not mark
                return await self._pair(tx, account, family, following, now)
            revocation = await self._end(tx, stored.family, account.workspace_id, "reused", now)
        await self._revocations.revoke(revocation)
        raise Unauthenticated(
            "refresh-reused", "This refresh token was used before; all tokens of its login are void. Log in again."
        )

    async def resume(self, session: str) -> Pair:
        """An access token for a browser's session, which lives on from now; raises NotFound `session-ended`."""
        async with self._database.platform() as tx:
            account = await store.lock_bearer(tx, digest(session))
            stored = await store.lock_token(tx, digest(session))
            now = self._clock.now()  # under the locks: later than any revocation that has been written down
            ended = stored is None or not stored.family.browser or judge(stored, self._lives, now) is not Use.ROTATE
            if stored is None or ended or account is None or not account.active:
                raise NotFound("session-ended", "This session has ended; log in again.")
            family = await self._prolong(tx, stored.family, now)
            return await self._pair(tx, account, family, session, now)

    def until(self, pair: Pair) -> datetime:
        """When an access token given just now ends, or a little before."""
        return self._clock.now() + timedelta(seconds=pair.expires_in - 1)

    async def logout(self, token: str, actor: Actor) -> None:
        """End the family and its access tokens at once; a token that is unknown or ended changes nothing."""
        async with self._database.platform() as tx:
            account, stored = await _presented(tx, token)
            now = self._clock.now()
            if stored is None or account is None or stored.family.revoked_at is not None:
                return
            revocation = await self._end(tx, stored.family, account.workspace_id, "logout", now)
            who = Actor(account.id, account.email, actor.address, actor.request_id)
            deed = Deed("session.ended", "user", str(account.id), {})
            await record(tx, who, deed, account.workspace_id, now)
        await self._revocations.revoke(revocation)

    async def revoked(self) -> list[Revocation]:
        """All that is written down and still matters."""
        async with self._database.glance() as connection:
            return await store.list_revocations(connection, self._clock.now())

    async def load_revocations(self) -> None:
        """Hand what is written down to the port: an emptied one would un-revoke tokens."""
        await self._revocations.tell(await self.revoked(), whole=True)

    async def tell_revocations(self) -> None:
        """Hand over what was written down lately, by whichever replica; one that was slow to commit is found later."""
        now = self._clock.now()
        async with self._database.glance() as connection:
            recent = await store.list_revocations(connection, now, now - timedelta(seconds=RECENT_SECONDS))
        await self._revocations.tell(recent)

    async def forget_outlived(self) -> None:
        """Remove rows that can no longer change any answer."""
        now, more = self._clock.now(), True
        while more:
            async with self._database.platform() as tx:
                more = await store.remove_outlived(tx, now, now - timedelta(seconds=self._throttle.seconds))

    async def _fail(self, email: str, account: Account | None, reason: str, actor: Actor) -> NoReturn:
        now = self._clock.now()
        workspace = account.workspace_id if account else PLATFORM_WORKSPACE
        subject = str(account.id) if account else "unknown"
        said = LoginFailed(email=email, address=actor.address, reason=reason, at=now)
        async with self._database.platform() as tx:
            await emit(tx, SCHEMA, said, subject=subject, workspace=workspace, source=SERVICE)
            await record(tx, actor, Deed("login.failed", "user", subject, {"reason": reason}), workspace, now)
        metrics.LOGINS.of("inactive" if reason == "user-inactive" else "failed").inc()
        if reason in _AFTER_THE_RIGHT_PASSWORD:
            raise Denied(reason, _AFTER_THE_RIGHT_PASSWORD[reason])
        raise Unauthenticated(reason, "The e-mail or the password is not right.")

    async def _comes_by_provider(self, account: Account) -> bool:
        if self._only_issuer is None:
            return False
        async with self._database.platform() as tx:
            return await oidc.is_known(tx, self._only_issuer, account.id)

    async def _begin(self, account: Account, rehashed: str | None, actor: Actor, *, browser: bool) -> Pair:
        async with self._database.platform() as tx:
            # Verifying took its time: what was decided on must still be true, and stay so until the commit.
            present = await store.account_of(tx, account.id, lock=True)
            now = self._clock.now()
            if present is None or not present.active or present.password_hash != account.password_hash:
                raise Unauthenticated("invalid-credentials", "The e-mail or the password is not right.")
            await store.note_login(tx, account.id, now, rehashed)
            pair = await self.begin(tx, present, actor, {}, now, browser=browser)
        metrics.LOGINS.of("succeeded").inc()
        return pair

    async def _rotate(self, tx: Connection, spent: RefreshToken, following: str, now: datetime) -> Family:
        await store.spend_token(tx, spent.digest, now)
        await store.add_token(tx, _new(following, spent.family), now)
        await store.remove_spent(tx, spent.family.id, now - timedelta(seconds=SPENT_KEPT_SECONDS))
        return await self._prolong(tx, spent.family, now)

    async def _prolong(self, tx: Connection, family: Family, now: datetime) -> Family:
        longer = self._lives.prolonged(family, now)
        await store.prolong_family(tx, longer)
        return longer

    async def _end(self, tx: Connection, family: Family, workspace: UUID, reason: str, now: datetime) -> Revocation:
        await store.revoke_family(tx, family.id, reason, now)
        return await revoke_family(
            tx, family.id, family.user_id, workspace, now=now, lifetime_seconds=self._access_seconds
        )

    async def _pair(self, tx: Connection, account: Account, family: Family, token: str, now: datetime) -> Pair:
        """No access token outlives its login."""
        memberships = await store.memberships(tx, account.id)
        mine = [membership.workspace_id for membership in memberships]
        default = account.workspace_id if account.workspace_id in mine or not mine else mine[0]
        grant = Grant(account.id, account.email, family.id, default, memberships)
        goes_on = int((self._lives.end_of(family) - now).total_seconds())
        seconds = min(self._access_seconds, goes_on)
        signed = self._keys.sign(claims(grant, new_id(), now, seconds))
        return Pair(signed, token, seconds, goes_on, family.id)


def _new(token: str, family: Family) -> RefreshToken:
    return RefreshToken(digest(token), family, secrets.token_bytes(NONCE_BYTES), None, family.seal is not None)


async def _presented(tx: Connection, token: str) -> tuple[Account | None, RefreshToken | None]:
    """Whose refresh token this is and how it stands, both locked; known by its mark where its row is gone."""
    account = await store.lock_bearer(tx, digest(token))
    stored = await store.lock_token(tx, digest(token))
    if stored is None and (claimed := claimed_family(token)) is not None:
        account = await store.lock_owner(tx, claimed)
        family = await store.lock_family(tx, claimed)
        stored = None if family is None else forgotten(family, token)
    return account, stored
