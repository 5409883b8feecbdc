"""Auth, composition root: keys, passwords, sessions, people, audit, put together by hand."""

import asyncio
from datetime import timedelta

from dataaggregator.errors import Transient
from dataaggregator.http import cookies
from dataaggregator.ports import Ports
from dataaggregator.revocations import TELL_SECONDS
from dataaggregator.service import Loop, Service
from dataaggregator.telemetry import logs

from . import SCHEMA, SERVICE
from .apikeys.api import ApiKeysApi
from .apikeys.commands import ApiKeys
from .audit.api import AuditApi
from .audit.commands import Trail
from .audit.events import HANDLERS
from .keys.signing import SEALED, SigningKeys
from .oidc.api import OidcApi
from .oidc.commands import OidcLogins
from .oidc.provider import Provider
from .operator import Operator
from .passwords.api import PasswordsApi
from .passwords.commands import PasswordCommands
from .passwords.common import is_common
from .passwords.domain import Policy
from .passwords.hashing import Passwords
from .people.api import UsersApi, WorkspacesApi
from .people.commands import People
from .sessions.api import Browsers, SessionsApi
from .sessions.commands import Sessions
from .sessions.throttle import Throttle

KEYS_EVERY_SECONDS = 60.0
SWEEP_EVERY_SECONDS = 600.0

log = logs.get("auth")


class Identity:
    """What must be there before the first login: pepper, keys, the first admin, what is revoked."""

    name = "identity"

    def __init__(
        self, ports: Ports, keys: SigningKeys, passwords: Passwords, people: People, sessions: Sessions
    ) -> None:
        self._settings = ports.settings
        self._keys = keys
        self._passwords = passwords
        self._people = people
        self._sessions = sessions

    async def open(self) -> None:
        await self._passwords.open(await self._keys.pepper())
        await self._keys.refresh()
        await self._sessions.load_revocations()
        secret = self._settings.bootstrap_admin_password
        email = self._settings.bootstrap_admin_email
        if await self._people.bootstrap(email, secret.get_secret_value() if secret else None):
            log.info("admin_created", email=email)

    async def close(self) -> None:
        self._passwords.close()

    async def ping(self) -> None:
        self._keys.check()

    async def tell(self) -> None:
        """The loop that tells every process what was revoked; its pulse says that there is nothing else."""
        told = True
        while True:
            try:
                await self._sessions.tell_revocations()
                told = True
            except Transient as error:
                if told:
                    log.warning("revocations_not_told", code=error.code)
                told = False
            await asyncio.sleep(TELL_SECONDS)


async def sweep(sessions: Sessions, changes: PasswordCommands, logins: OidcLogins) -> None:
    """The loop that forgets what is outlived."""
    while True:
        await asyncio.sleep(SWEEP_EVERY_SECONDS)
        try:
            for each in (sessions, changes, logins):
                await each.forget_outlived()
        except Transient as error:
            log.warning("sweep_postponed", code=error.code)


def build(ports: Ports) -> Service:
    keys = SigningKeys(ports.database, ports.keys, ports.clock)
    passwords = Passwords(ports.settings.bcrypt_cost)
    policy, throttle = Policy(ports.settings.password_min_length, is_common), Throttle(ports)
    sessions = Sessions(ports, keys, passwords, throttle)
    people = People(ports, passwords, policy)
    changes = PasswordCommands(ports, passwords, policy, throttle)
    browsers = Browsers(ports.keys.derive(cookies.PURPOSE))
    provider = Provider(ports.settings, ports.clock)
    logins = OidcLogins(ports, sessions, provider)
    identity = Identity(ports, keys, passwords, people, sessions)
    days = ports.settings.audit_retention_days
    trail = Trail(ports.database, ports.keys, ports.clock, None if days is None else timedelta(days=days))
    doors = (
        SessionsApi(sessions, keys, browsers),
        OidcApi(logins, browsers, ports.settings),
        PasswordsApi(changes),
        UsersApi(people),
        WorkspacesApi(people),
        ApiKeysApi(ApiKeys(ports, keys)),
        AuditApi(ports.database, trail),
    )
    return Service(
        name=SERVICE,
        schema=SCHEMA,
        routes=[route for door in doors for route in door.routes()],
        handlers=HANDLERS,
        loops=[
            Loop("keys", lambda: keys.keep_fresh(KEYS_EVERY_SECONDS)),
            Loop("sweep", lambda: sweep(sessions, changes, logins)),
            Loop("revocations", identity.tell),
            Loop("audit-heads", trail.keep_signed),
            Loop("audit-retention", trail.keep_young),
        ],
        resources=[identity, trail, provider],
        needs=[ports.database, identity, trail],
        sealed=SEALED,
        operator={"users reset-password": Operator(keys, changes).reset_password},
    )
