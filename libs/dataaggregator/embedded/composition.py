"""The embedded composition: every service in this process, one loop, one pool, a private PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from dataaggregator.composition import compose
from dataaggregator.db import migrate
from dataaggregator.embedded.home import Home
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.host import Host
from dataaggregator.installed import installed_services
from dataaggregator.settings import Settings
from dataaggregator.telemetry import logs

# What lies beside the platform's user: their own machine and their own network.
NEAR_NETWORKS = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


class EmbeddedPlatform:
    """Enter it from the main thread (the private server lives as long as that thread), then await `running`."""

    def __init__(self, settings: Settings, home: Home | None = None) -> None:
        self.home = home or Home.default()
        self._given = settings
        self._held = ExitStack()
        self._settings = settings
        self._host: Host | None = None
        self._secret_key = ""
        self.server_url = ""
        """The owner's door to the database, password included. Never to be logged."""
        self.administrator = ("", "")
        self.made_administrator = False

    def __enter__(self) -> Self:
        """Hold the home and start the database."""
        self._held.enter_context(self.home.locked())
        try:
            self.home.check_not_moved()
            given = self._given
            if given.database_url is not None:
                self.server_url = given.database_url.get_secret_value()
            else:
                self.server_url = self._held.enter_context(EmbeddedPostgres(self.home.postgres)).url
            self._secret_key = given.secret_key.get_secret_value() if given.secret_key else self.home.secret_key()
            self._settings = self._completed()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    @property
    def url(self) -> str:
        """Where the gateway answers on this machine, in the clear: what the command line here is told."""
        return self._running().directory.url("gateway")

    @property
    def address(self) -> str:
        """Where the gateway answers callers: over TLS where a certificate is set."""
        return self._running().addresses["gateway"]

    async def stopped(self) -> None:
        """Return when a signal asked for the end; raise when a part of the platform failed."""
        await self._running().stopped()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Migrate, start every service, write down where the gateway answers; stop in reverse order."""
        logs.configure(self._settings)
        for service in installed_services():
            if service.migrations is not None:
                await migrate.upgrade(self.server_url, service.name, service.migrations)
        ports = compose(self._settings)
        self._host = Host([service.build(ports) for service in installed_services()], ports)
        async with self._host:
            self.home.announce(self.url)
            yield

    def _running(self) -> Host:
        if self._host is None:
            raise RuntimeError("the platform is not running: enter it, then `async with platform.running()`")
        return self._host

    def _completed(self) -> Settings:
        """What the environment left open and the home knows or makes up."""
        given = self._given
        password = given.bootstrap_admin_password
        email, made, self.made_administrator = self.home.make_credentials(
            given.bootstrap_admin_email, password.get_secret_value() if password else None
        )
        self.administrator = (email, made)
        return given.model_copy(
            update={
                "home": self.home.path,
                "database_url": SecretStr(self.server_url),
                "secret_key": SecretStr(self._secret_key),
                "bootstrap_admin_email": email,
                "bootstrap_admin_password": SecretStr(made),
                "files_allowed_roots": given.files_allowed_roots or (Path("/"),),
                "egress_allow": given.egress_allow or NEAR_NETWORKS,
            }
        )
