"""OIDC commands: begin a login at the identity provider, and end it with a login here."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dataaggregator.bus import emit
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.contracts.identity import LoginFailed, UserCreated
from dataaggregator.db import Connection
from dataaggregator.errors import Conflict, Denied, NotFound, PlatformError, Unauthenticated
from dataaggregator.ids import new_id
from dataaggregator.permissions import DEFAULT_WORKSPACE
from dataaggregator.ports import Ports
from dataaggregator.revocations import Revocation
from dataaggregator.telemetry import metrics
from services.auth import SCHEMA, SERVICE
from services.auth.audit.record import Actor, Deed, record
from services.auth.people import store as people
from services.auth.people.domain import User
from services.auth.sessions import store as sessions
from services.auth.sessions.commands import Pair, Sessions
from services.auth.sessions.domain import Account
from services.auth.sessions.revoking import revoke_user

from . import store
from .domain import (
    LIFE_SECONDS,
    Attempt,
    Expected,
    Person,
    Rule,
    check_strength,
    claims_of,
    granted,
    key_id,
    person_of,
    untrue,
)
from .granting import bring_about, grants
from .provider import Provider
from .store import Login

PURPOSE = "oidc-login"


@dataclass(frozen=True)
class Returned:
    """What a browser brings back from the provider."""

    state: str | None
    code: str | None
    issuer: str | None
    error: str | None


class OidcLogins:
    """The use cases of logins at the provider."""

    def __init__(self, ports: Ports, begins: Sessions, provider: Provider) -> None:
        self._database = ports.database
        self._revocations = ports.revocations
        self._clock = ports.clock
        self._sessions = begins
        self._provider = provider
        # Makes state, nonce and verifier out of what the browser holds.
        self._key = ports.keys.derive(PURPOSE)
        self._rules = tuple(Rule.read(rule) for rule in ports.settings.oidc_roles)
        self._groups_claim = ports.settings.oidc_groups_claim
        self._joins = ports.settings.oidc_join_by_email
        self._access_seconds = int(ports.settings.access_token_expire_minutes * 60)

    async def begin(self, login: Login) -> tuple[str, str]:
        """Where the browser goes, and the secret that it keeps meanwhile; nothing is stored that tells of either."""
        self._check_configured()
        attempt = Attempt.begun(self._key)
        url = await self._provider.login_url(attempt)
        async with self._database.platform() as tx:
            until = self._clock.now() + timedelta(seconds=LIFE_SECONDS)
            await store.add_login(tx, attempt.digest, login, until)
        return url, attempt.secret

    async def finish(self, secret: str, returned: Returned, actor: Actor) -> tuple[Pair, Login]:
        """A login for who has logged in at the provider; whatever comes of it, the `secret` of its begin is spent.

        Raises Unauthenticated `oidc-login-invalid`, `oidc-refused`, `oidc-token-invalid`; Denied `user-inactive`,
        `oidc-email-unverified`, `oidc-login-weak`, `oidc-not-permitted`; Conflict `oidc-email-taken`, `last-admin`.
        """
        self._check_configured()
        attempt = Attempt.of(self._key, secret)
        if not hmac.compare_digest(attempt.state.encode(), (returned.state or "").encode()):
            raise _not_begun()
        async with self._database.platform() as tx:
            login = await store.spend_login(tx, attempt.digest, self._clock.now())
        if login is None:
            raise _not_begun()
        person: Person | None = None
        try:
            person = await self._person(attempt, returned)
            pair = await self._enter(person, actor, browser=login.browser)
        except (Unauthenticated, Denied, Conflict) as refused:
            await self._tell_failed(refused, person, actor)
            raise
        metrics.LOGINS.of("succeeded").inc()
        return pair, login

    async def forget_outlived(self) -> None:
        async with self._database.platform() as tx:
            await store.remove_outlived(tx, self._clock.now())

    # -- who it is

    async def _person(self, attempt: Attempt, returned: Returned) -> Person:
        provider = self._provider
        named = returned.issuer is not None or (await provider.endpoints()).says_issuer
        if named and returned.issuer != provider.issuer:  # RFC 9207: of another provider, mixed up with ours
            raise Unauthenticated("oidc-refused", f"This answer is not of the identity provider {provider.issuer}.")
        if returned.code is None:
            told = returned.error or "it sent no code"
            raise Unauthenticated("oidc-refused", f"The identity provider did not log you in: {told}.")
        id_token, access_token = await provider.exchange(returned.code, attempt.verifier)
        key = await provider.key(key_id(id_token, provider.algorithm))
        if key is None:
            raise untrue("it is signed with a key that is not the provider's")
        expected = Expected(provider.issuer, provider.client_id, provider.algorithm, attempt.nonce)
        claims = claims_of(id_token, key, expected, self._clock.now())
        check_strength(provider.strengths, claims)
        return person_of(await self._completed(claims, access_token), self._groups_claim)

    async def _completed(self, claims: Mapping[str, Any], access_token: str) -> Mapping[str, Any]:
        """Many providers say only at a second address what does not fit into a token."""
        wanted = {"email", "email_verified"} | ({self._groups_claim} if self._rules else set())
        if wanted <= claims.keys():
            return claims
        told = await self._provider.userinfo(access_token)
        if told and told.get("sub") != claims["sub"]:
            raise untrue("what else the provider says is of somebody else")
        # An e-mail and whether it is verified come from one place.
        kept = claims if "email_verified" in claims else {name: claims[name] for name in claims if name != "email"}
        return {**told, **kept}

    # -- who that is here

    async def _enter(self, person: Person, actor: Actor, *, browser: bool) -> Pair:
        async with self._database.platform() as tx:
            account = await self._account(tx, person, actor)
            now = self._clock.now()  # under the lock: later than any revocation that has been written down
            ended = await self._grant(tx, account, person, actor, now)
            pair = None
            if await sessions.memberships(tx, account.id):
                # What was given out up to now may be void: this login begins after that.
                after = now + timedelta(milliseconds=1) if ended else now
                await sessions.note_login(tx, account.id, now, None)
                by = {"issuer": person.issuer}
                pair = await self._sessions.begin(tx, account, actor, by, after, browser=browser)
        if ended is not None:
            await self._revocations.revoke(ended)
        if pair is None:
            raise _not_permitted()
        return pair

    async def _account(self, tx: Connection, person: Person, actor: Actor) -> Account:
        """The account of this subject, locked: known, joined by e-mail, or made."""
        user_id = await store.lock_subject(tx, person.issuer, person.subject)
        if user_id is None:
            user = await self._newcomer(tx, person, actor)
            user_id = user.id
            await store.add_subject(tx, person.issuer, person.subject, user_id, self._clock.now())
        account = await sessions.account_of(tx, user_id, lock=True)
        if account is None or not account.active:
            raise Denied("user-inactive", "This account is deactivated; ask an administrator to activate it.")
        return account

    async def _newcomer(self, tx: Connection, person: Person, actor: Actor) -> User:
        """Who comes for the first time is known by e-mail only, so that it has to be theirs."""
        if person.email is None:
            raise Denied(
                "oidc-email-unverified", "The identity provider names no e-mail of yours that it has verified."
            )
        found = await sessions.find_account(tx, person.email)
        if found is None:
            return await self._make(tx, person, person.email, actor)
        user = await people.get_user(tx, found.workspace_id, str(found.id), lock=True)
        if not self._joins or user.service or await store.is_known(tx, person.issuer, user.id):
            raise Conflict("oidc-email-taken", f"There is a user {user.email} already, who has not come by this way.")
        deed = Deed("user.joined", "user", str(user.id), {"issuer": person.issuer, "subject": person.subject})
        await record(tx, _by(person, actor), deed, user.workspace_id, self._clock.now())
        return user

    async def _make(self, tx: Connection, person: Person, email: str, actor: Actor) -> User:
        """A user whose home is the workspace `default`, or else the first in which their groups have a role."""
        rooms = [one.workspace for one in await grants(tx, granted(self._rules, person.groups)) if one.role]
        if not rooms:
            raise _not_permitted()
        home, now = min(rooms, key=lambda room: room.name != DEFAULT_WORKSPACE), self._clock.now()
        user = User(new_id(), home.id, email, person.name, True, None, now, now, None, 1)
        await people.add_user(tx, user, None)
        said = UserCreated(user_id=user.id, email=user.email)
        await emit(tx, SCHEMA, said, subject=str(user.id), workspace=home.id, source=SERVICE)
        deed = Deed("user.created", "user", str(user.id), {"issuer": person.issuer, "subject": person.subject})
        await record(tx, _by(person, actor), deed, home.id, now)
        return user

    async def _grant(
        self, tx: Connection, account: Account, person: Person, actor: Actor, now: datetime
    ) -> Revocation | None:
        """The roles of their groups; where those are less than before, tokens that say more are void."""
        lessened = [
            await bring_about(tx, grant, account.id, _by(person, actor), now)
            for grant in await grants(tx, granted(self._rules, person.groups))
        ]
        if not any(lessened):
            return None
        return await revoke_user(tx, account.id, account.workspace_id, now=now, lifetime_seconds=self._access_seconds)

    def _check_configured(self) -> None:
        if not self._provider.issuer:
            raise NotFound("oidc-not-configured", "There is no login by an identity provider here.")

    async def _tell_failed(self, refused: PlatformError, person: Person | None, actor: Actor) -> None:
        metrics.LOGINS.of("inactive" if refused.code == "user-inactive" else "failed").inc()
        now, email = self._clock.now(), person.email if person else None
        deed = Deed("login.failed", "user", "unknown", {"reason": refused.code, "issuer": self._provider.issuer})
        async with self._database.platform() as tx:
            if email is not None:
                said = LoginFailed(email=email, address=actor.address, reason=refused.code, at=now)
                await emit(tx, SCHEMA, said, subject="unknown", workspace=PLATFORM_WORKSPACE, source=SERVICE)
            await record(tx, actor, deed, PLATFORM_WORKSPACE, now)


def _by(person: Person, actor: Actor) -> Actor:
    """What a provider's word brings about is done in its name."""
    return Actor(None, person.issuer, actor.address, actor.request_id)


def _not_begun() -> Unauthenticated:
    return Unauthenticated(
        "oidc-login-invalid", "This login was not begun in this browser, has ended already, or took too long."
    )


def _not_permitted() -> Denied:
    return Denied("oidc-not-permitted", "None of your groups at the identity provider has a role here.")
