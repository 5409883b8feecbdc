"""The bus, RabbitMQ: events that may be lost: to whoever observes in this process, and to one replica of a service."""

import asyncio
from collections.abc import Callable

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from dataaggregator.bus.consumer import Consumer
from dataaggregator.bus.port import Observer
from dataaggregator.bus.rabbitmq import topology
from dataaggregator.bus.rabbitmq.arrivals import Arrivals, take_each
from dataaggregator.bus.rabbitmq.link import Link
from dataaggregator.bus.rabbitmq.wire import to_event
from dataaggregator.contracts.envelope import Event
from dataaggregator.errors import Invalid
from dataaggregator.telemetry import logs

log = logs.get("bus")


class EphemeralReceiver:
    """The ephemeral events of one service, each to one of its replicas."""

    def __init__(self, link: Link, consumer: Consumer) -> None:
        self._link = link
        self._consumer = consumer

    async def run(self) -> None:
        """Until cancelled."""
        await take_each(self._link, topology.ephemeral_name(self._consumer.schema), self._begin, self._deliver)

    async def _begin(self, channel: AbstractChannel) -> Arrivals:
        await topology.declare_exchanges(channel)
        queue = await topology.ephemeral_queue(channel, self._consumer.schema, self._consumer.handlers)
        return await Arrivals.begin(channel, queue, no_ack=True)

    async def _deliver(self, message: AbstractIncomingMessage) -> None:
        event = _read(message)
        if event is not None and event.type in self._consumer.handlers:
            await self._consumer.deliver_ephemeral(event)


class Observers:
    """Everybody in this process who looks on; consumes only while there is somebody."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._observers: list[Observer] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, observer: Observer) -> Callable[[], None]:
        """Call it for each ephemeral event from now on; returns what stops that."""
        self._observers.append(observer)
        if self._task is None or self._task.done():
            looking = take_each(self._link, "what observers see", self._begin, self._tell)
            self._task = asyncio.create_task(looking, name="bus observers")
        return lambda: self._observers.remove(observer)

    async def close(self) -> None:
        """Look on no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _begin(self, channel: AbstractChannel) -> Arrivals:
        await topology.declare_exchanges(channel)
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        for event_type in topology.EPHEMERAL_TYPES:
            await queue.bind(topology.exchange_of(event_type), routing_key=event_type)
        return await Arrivals.begin(channel, queue, no_ack=True)

    async def _tell(self, message: AbstractIncomingMessage) -> None:
        if (event := _read(message)) is None:
            return
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                log.exception("observer_failed", type=event.type)


def _read(message: AbstractIncomingMessage) -> Event | None:
    try:
        return to_event(message)
    except Invalid as error:
        log.warning("ephemeral_event_unreadable", reason=error.detail)
        return None
