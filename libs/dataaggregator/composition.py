"""Which adapter stands behind each port: the settings choose, the same way for one process of all services or five."""

from collections.abc import Mapping, Sequence

from dataaggregator.bus import Bus, EmbeddedBus
from dataaggregator.clock import Clock, SystemClock
from dataaggregator.db import Database, migrate
from dataaggregator.directory import Directory
from dataaggregator.errors import Permanent
from dataaggregator.http.revoked import AskAuth
from dataaggregator.installed import InstalledService, installed_services
from dataaggregator.limits import Limits
from dataaggregator.limits.in_process import InProcessLimits
from dataaggregator.limits.redis import RedisLimits
from dataaggregator.ports import Ports
from dataaggregator.revocations import Revocations
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.revocations.redis import RedisRevocations
from dataaggregator.secrets import KeyRing
from dataaggregator.settings import Settings, SettingsError, missing

NEEDED = ("database_url", "rabbitmq_url", "redis_url", "secret_key")


def compose(settings: Settings, service: str = "platform") -> Ports:
    """The ports of this process, unopened; `service` is what the database calls it."""
    if settings.database_url is None or settings.secret_key is None:
        raise SettingsError("\n".join(missing(settings, ("database_url", "secret_key"))))
    url, clock = settings.database_url.get_secret_value(), SystemClock()
    database = Database(url, settings, service)
    directory = _directory(settings)
    keys = KeyRing(
        settings.secret_key.get_secret_value(), [key.get_secret_value() for key in settings.secret_key_previous]
    )
    return Ports(
        settings=settings,
        database=database,
        bus=_bus(database, settings),
        limits=_limits(settings),
        revocations=_revocations(settings, clock, AskAuth(directory, keys, clock, service)),
        directory=directory,
        keys=keys,
        clock=clock,
    )


def require_servers(settings: Settings) -> None:
    """A service that is a process of its own shares everything over servers; raises SettingsError, a line each."""
    if lines := missing(settings, NEEDED):
        raise SettingsError("\n".join(lines))


async def require_migrated(settings: Settings, services: Sequence[InstalledService]) -> None:
    """Raises Permanent if the schema of one of these services is behind what its code expects."""
    url = settings.database_url.get_secret_value() if settings.database_url else ""
    for service in services:
        if service.migrations is not None and await migrate.behind(url, service.name, service.migrations):
            raise Permanent(
                "database-not-migrated", f"The schema {service.name} is behind: run `dataaggregator db upgrade` first."
            )


def addresses(settings: Settings, services: Sequence[str]) -> Mapping[str, tuple[str, int]]:
    """Host and port on which each of these services listens as a process of its own."""
    own = {"gateway": (settings.gateway_host, settings.gateway_port)}
    return {name: own.get(name) or (settings.services_host, getattr(settings, f"{name}_port", 0)) for name in services}


def _bus(database: Database, settings: Settings) -> Bus:
    if settings.rabbitmq_url is None:
        return EmbeddedBus(database, settings)
    # The driver takes a while to import: only who talks to a broker pays for it.
    from dataaggregator.bus.rabbitmq import RabbitBus  # noqa: PLC0415

    return RabbitBus(settings.rabbitmq_url.get_secret_value(), database, settings)


def _limits(settings: Settings) -> Limits:
    if settings.redis_url is None:
        return InProcessLimits(settings.rates())
    return RedisLimits(settings.redis_url.get_secret_value(), settings.rates())


def _revocations(settings: Settings, clock: Clock, auth: AskAuth) -> Revocations:
    if settings.redis_url is None:
        return InProcessRevocations(clock)
    return RedisRevocations(settings.redis_url.get_secret_value(), clock, auth)


def _directory(settings: Settings) -> Directory:
    """Where the services of other processes are; the host writes over it where those of this one listen."""
    directory = Directory()
    for service in installed_services():
        directory.put(service.name, getattr(settings, f"{service.name}_url"))
    return directory
