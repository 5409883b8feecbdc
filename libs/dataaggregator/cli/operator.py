"""What whoever has the machine may do without a login: by its database and its SECRET_KEY, whether or not it runs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel, SecretStr

from dataaggregator.composition import compose, require_migrated
from dataaggregator.embedded.home import Home
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.errors import NotFound
from dataaggregator.installed import InstalledService, installed, installed_services
from dataaggregator.ports import Ports
from dataaggregator.resealing import Resealed, reseal
from dataaggregator.service import Service
from dataaggregator.settings import Settings, SettingsError, missing

T = TypeVar("T")


def by_operator(service: str, words: str, argument: str) -> BaseModel:
    """Carry out what this service lets an operator do; raises SettingsError or a PlatformError."""

    async def act(_: Ports, services: Sequence[Service]) -> BaseModel:
        return await services[0].operator[words](argument)

    return _on_this_machine(installed((service,)), act)


def rotate_secrets() -> list[Resealed]:
    """Seal anew what an earlier SECRET_KEY has sealed, of every service; raises SettingsError or a PlatformError."""

    async def act(ports: Ports, services: Sequence[Service]) -> list[Resealed]:
        return [
            await reseal(ports.database, ports.keys, service.name, sealed)
            for service in services
            for sealed in service.sealed
        ]

    return _on_this_machine(installed_services(), act)


def _on_this_machine(chosen: Sequence[InstalledService], act: Callable[[Ports, Sequence[Service]], Awaitable[T]]) -> T:
    settings, home = Settings.load(), Home.default()
    with _database(settings, home) as url:
        known = {"database_url": SecretStr(url), "secret_key": _secret_key(settings, home)}
        alone = settings.model_copy(update={**known, "db_pool_size": 2, "db_max_overflow": 0})
        return asyncio.run(_carry_out(alone, chosen, act))


async def _carry_out(
    settings: Settings,
    chosen: Sequence[InstalledService],
    act: Callable[[Ports, Sequence[Service]], Awaitable[T]],
) -> T:
    await require_migrated(settings, chosen)
    ports = compose(settings, "operator")
    await ports.database.open()
    try:
        return await act(ports, [service.build(ports) for service in chosen])
    finally:
        await ports.database.close()


@contextmanager
def _database(settings: Settings, home: Home) -> Iterator[str]:
    """The server of the environment, else the home's own: the one that runs, or one for this command alone."""
    own = EmbeddedPostgres(home.postgres)
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
    elif not own.data.is_dir():
        raise NotFound("installation-missing", f"There is no installation in {home.path}, and DATABASE_URL is not set.")
    elif (running := own.running_url()) is not None:
        yield running
    else:
        with home.locked(), own:
            yield own.url


def _secret_key(settings: Settings, home: Home) -> SecretStr:
    """The environment's, else the one that was made in this home; none is made here."""
    if settings.secret_key is not None:
        return settings.secret_key
    kept = home.kept_secret_key()
    if kept is None:
        raise SettingsError("\n".join(missing(settings, ("secret_key",))))
    return SecretStr(kept)
