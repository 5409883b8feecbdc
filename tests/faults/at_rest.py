"""The end of every row of the fault matrix: its composition, looked at with all invariants that can apply to it."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from deploy.local.rabbitmq import Broker
from tests.e2e.platform import Platform
from tests.faults import invariants
from tests.faults.cluster import bus_of
from tests.faults.invariants import Bus, Connection, Healed, Loaded
from tests.faults.rows import Warehouse
from tests.faults.small_bus import BUS
from tests.integration.bus.rig import ORDERLY
from tests.integration.executor.place import SECRET_KEY, Place


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """To a platform's database, as its owner."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def check_place(place: Place, warehouse: Warehouse, loaded: Loaded, made_of: str = "an executor") -> None:
    """An executor in this process, still at work."""
    settings = place.ports.settings
    assert settings.database_url is not None
    async with connected(settings.database_url.get_secret_value()) as connection:
        healed = Healed(
            made_of,
            connection,
            Bus.of(place.services),
            warehouse=warehouse.connection,
            loaded=[loaded],
            home=settings.home,
            pid=os.getpid(),
            secrets=[SECRET_KEY, warehouse.password],
            files=[settings.home / "runs"],
        )
        await invariants.check(healed)


async def check_embedded(platform: Platform, warehouse: Warehouse, loaded: Loaded) -> None:
    """A whole platform in one process."""
    environment: Mapping[str, str] = {
        **platform.environment, "DATABASE_URL": platform.database_url, "SECRET_KEY": SECRET_KEY,
    }  # fmt: skip
    async with connected(platform.database_url) as connection:
        healed = Healed(
            "the embedded platform",
            connection,
            bus_of(environment),
            warehouse=warehouse.connection,
            loaded=[loaded],
            home=platform.home.path,
            pid=platform.pid,
            secrets=[warehouse.password],
            files=[platform.log, platform.home.runs],
        )
        await invariants.check(healed)


@dataclass(frozen=True)
class SmallBus:
    """The three small services on RabbitMQ; `broker` as in `Healed`."""

    connection: Connection
    broker: tuple[Broker, str] | None

    async def check(self) -> None:
        await invariants.check(Healed("three small services on the broker", self.connection, BUS, broker=self.broker))
        await invariants.check_order(self.connection, f"{ORDERLY}.effects")


async def check_schedulers(connection: Connection) -> None:
    """Schedulers alone."""
    await invariants.check(Healed("schedulers", connection))
