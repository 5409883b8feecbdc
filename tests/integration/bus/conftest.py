"""The bus's three small services on RabbitMQ, as a test wants them, and a stranger's door to their broker."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from dataaggregator.db import Database
from dataaggregator.settings import Settings
from deploy.local.rabbitmq import Broker
from tests.faults.small_bus import small_services
from tests.integration.bus.rig import NEVER_SECONDS, Rig, Services


@pytest.fixture
def services(database: Database, settings: Settings, rabbitmq_url: str, rabbit_server: Broker) -> Services:
    """The bus's three small services; the watch looks when it is told to, and asks the management API or not."""

    def make(
        watch_seconds: float = NEVER_SECONDS,
        *,
        managed: bool = True,
        database: Database = database,
        broker_url: str = rabbitmq_url,
    ) -> AbstractAsyncContextManager[Rig]:
        login = f"://{rabbit_server.user}:{rabbit_server.password}@"
        changes: dict[str, Any] = {"bus_watch_seconds": watch_seconds}
        if managed:
            changes["rabbitmq_management_url"] = rabbit_server.management_url.replace("://", login)
        changed = settings.model_validate({**settings.model_dump(exclude_unset=True), **changes})
        return small_services(database, changed, broker_url)

    return make


@pytest.fixture
async def channel(rabbitmq_url: str) -> AsyncIterator[AbstractChannel]:
    """A stranger's door to the broker."""
    async with await aio_pika.connect(rabbitmq_url) as connection:
        yield await connection.channel(on_return_raises=True)
