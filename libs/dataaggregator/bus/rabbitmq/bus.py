"""The bus, RabbitMQ: the adapter: relays publish with confirms, receivers apply through the inbox, under a watch."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

from aio_pika.abc import AbstractChannel

from dataaggregator.bus.consumer import Consumer
from dataaggregator.bus.handler import Handler
from dataaggregator.bus.loops import retry_loop, upkeep_loop
from dataaggregator.bus.port import LoopBody, Observer
from dataaggregator.bus.rabbitmq import topology
from dataaggregator.bus.rabbitmq.bindings import Bindings, Management
from dataaggregator.bus.rabbitmq.ephemeral import EphemeralReceiver, Observers
from dataaggregator.bus.rabbitmq.link import Link
from dataaggregator.bus.rabbitmq.publisher import Publisher
from dataaggregator.bus.rabbitmq.receiver import DeadLetters, Receiver
from dataaggregator.bus.rabbitmq.watch import Watch
from dataaggregator.bus.relay import Relay
from dataaggregator.bus.resend import resend_handler
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Database
from dataaggregator.errors import PlatformError
from dataaggregator.settings import Settings
from dataaggregator.telemetry import logs

log = logs.get("bus")


@dataclass(frozen=True)
class _Subscription:
    """What works for one service."""

    consumer: Consumer
    bindings: Bindings
    receiver: Receiver
    watch: Watch


class RabbitBus:
    """Two connections, because a blocked publisher is no longer read and its acknowledgements would stall.

    A broker that is down stops nobody: events wait in the outboxes and in the queues until it is back.
    """

    name = "bus"

    def __init__(self, url: str, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._publishing = Link(url, "dataaggregator publishing")
        self._consuming = Link(url, "dataaggregator consuming")
        self._publisher = Publisher(self._publishing)
        self._observers = Observers(self._consuming)
        self._suspects = asyncio.Lock()
        self._subscriptions: dict[str, _Subscription] = {}
        management = settings.rabbitmq_management_url
        self._management = Management(management.get_secret_value(), vhost(url)) if management else None

    async def open(self) -> None:
        """Declare what is missing, so that nothing is published before those who want it can get it.

        A broker that does not answer now is waited for by the loops.
        """
        try:
            async with self._publishing.channel(self._declare):
                pass
        except PlatformError as error:
            log.warning("bus_waits", code=error.code, reason=error.detail)

    async def close(self) -> None:
        """Close both connections; what is not acknowledged goes to another consumer."""
        await self._observers.close()
        await asyncio.gather(self._publishing.close(), self._consuming.close())

    async def ping(self) -> None:
        """Raises what the watch has found wrong, or that the broker does not answer."""
        await self._publishing.connection()
        for subscription in self._subscriptions.values():
            if subscription.watch.fault is not None:
                raise subscription.watch.fault

    def subscribe(self, schema: str, handlers: Sequence[Handler]) -> None:
        if schema in self._subscriptions:
            raise ValueError(f"{schema} has subscribed already")
        consumer = Consumer(self._database, schema, [*handlers, resend_handler(schema)], self._suspects)
        bindings = Bindings(self._database, consumer, self._management)
        receiver = Receiver(self._consuming, self._database, consumer, bindings)
        watch = Watch(self._consuming, receiver, bindings, self._settings.bus_watch_seconds)
        self._subscriptions[schema] = _Subscription(consumer, bindings, receiver, watch)

    def loops(self, schema: str) -> Mapping[str, LoopBody]:
        relay = Relay(self._database, schema, self._publisher.publish, self._settings.relay_poll_seconds)
        loops: dict[str, LoopBody] = {
            f"{schema}-relay": relay.run,
            f"{schema}-upkeep": partial(upkeep_loop, self._database, schema),
        }
        subscription = self._subscriptions.get(schema)
        if subscription is not None:
            consumer = subscription.consumer
            loops |= {
                f"{schema}-receiver": subscription.receiver.run,
                f"{schema}-dead-letters": DeadLetters(self._consuming, consumer).run,
                f"{schema}-watch": subscription.watch.run,
                f"{schema}-retries": partial(retry_loop, self._database, consumer),
            }
            if any(event_type in topology.EPHEMERAL_TYPES for event_type in consumer.handlers):
                loops[f"{schema}-ephemeral"] = EphemeralReceiver(self._consuming, consumer).run
        return loops

    async def publish_ephemeral(self, event: Event) -> None:
        await self._publisher.publish_ephemeral(event)

    def observe(self, observer: Observer) -> Callable[[], None]:
        return self._observers.add(observer)

    async def _declare(self, channel: AbstractChannel) -> None:
        for subscription in self._subscriptions.values():
            await subscription.bindings.mend(channel)


def vhost(url: str) -> str:
    """The virtual host that an AMQP URL names; `/` without one."""
    path = urlsplit(url).path
    return unquote(path[1:]) if len(path) > 1 else "/"
