"""Feed, bus door: every public event is appended."""

from collections.abc import Sequence

from dataaggregator.bus import Handler
from dataaggregator.bus.handler import alone
from dataaggregator.bus.signals import waker
from dataaggregator.clock import Clock
from dataaggregator.contracts.envelope import PUBLIC, Event
from dataaggregator.db import Connection, after_commit
from services.gateway import SERVICE
from services.gateway.webhooks import deliveries
from services.gateway.webhooks.domain import TOPIC as DELIVERIES

from . import store
from .domain import TOPIC


class FeedEvents:
    """The handlers of all public events that are stored."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def handlers(self) -> list[Handler]:
        return [
            Handler(SERVICE, message, alone(self.append), handle_all=self.append)
            for message in PUBLIC.values()
            if not message.ephemeral
        ]

    async def append(self, events: Sequence[Event], tx: Connection) -> None:
        await store.append(tx, events, self._clock.now())
        if await deliveries.fan_out(tx, events):
            after_commit(tx, waker(DELIVERIES))
        after_commit(tx, waker(TOPIC))
