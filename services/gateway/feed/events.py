"""Feed, bus door: every public event is appended."""

from dataaggregator.bus import Handler
from dataaggregator.bus.signals import waker
from dataaggregator.clock import Clock
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, after_commit
from services.gateway import SERVICE

from . import store
from .domain import PUBLIC, TOPIC


class FeedEvents:
    """The handlers of all public events that are stored."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def handlers(self) -> list[Handler]:
        return [Handler(SERVICE, message, self.append) for message in PUBLIC.values() if not message.ephemeral]

    async def append(self, event: Event, tx: Connection) -> None:
        await store.append(tx, event, self._clock.now())
        after_commit(tx, waker(TOPIC))
