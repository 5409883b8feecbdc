"""The bus's three small services on RabbitMQ, and what the invariants look at in them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dataaggregator.bus.rabbitmq import RabbitBus, declare_all
from dataaggregator.db import Database
from dataaggregator.settings import Settings
from tests.faults import invariants
from tests.integration.bus.rig import LISTENED, LISTENER, ORDERLY, Rig, make_schemas

BUS = invariants.Bus(
    handled={schema: [message.event_type for message in messages] for schema, messages in LISTENED.items()},
    effects={LISTENER: f"{LISTENER}.effects", ORDERLY: f"{ORDERLY}.effects"},
)


@asynccontextmanager
async def small_services(database: Database, settings: Settings, rabbitmq_url: str) -> AsyncIterator[Rig]:
    """Declared, and not yet at work in this process."""
    assert settings.database_url is not None
    await make_schemas(settings.database_url.get_secret_value())
    await declare_all(rabbitmq_url, BUS.handled)
    bus = RabbitBus(rabbitmq_url, database, settings)
    rig = Rig(database, bus)
    rig.subscribe()
    try:
        yield rig
    finally:
        await rig.stop()
        await bus.close()
