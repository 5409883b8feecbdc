"""The bus, RabbitMQ: every exchange, queue and binding, in one place; declaring the same again changes nothing.

events, internal      topic exchanges; what no queue is bound for goes on to `unrouted`
SERVICE.events        quorum queue of a service, bound for each type that it handles
SERVICE.dead          what was delivered from it too often without an end; parked by the service
SERVICE.ephemeral     what may be lost, for whichever replica of the service is free
unheard               forgets what no service of ours has to hear; others may
unrouted              what nobody was bound for: evidence for a person, bounded
"""

from collections.abc import Iterable, Mapping

from aio_pika.abc import AbstractChannel, AbstractQueue, ExchangeType
from aiormq.abc import FieldTable

from dataaggregator.bus.rabbitmq.link import Link
from dataaggregator.contracts.base import Channel
from dataaggregator.contracts.envelope import MESSAGES
from dataaggregator.contracts.identity import IdentityRevoked
from dataaggregator.contracts.platform import BusResendRequested

EXCHANGES: dict[Channel, str] = {"public": "dataaggregator.events", "internal": "dataaggregator.internal"}
DEAD = "dataaggregator.dead"
UNROUTED = "dataaggregator.unrouted"
UNHEARD = "dataaggregator.unheard"

MOST_DELIVERIES = 20
"""Of one message without an acknowledgement, each the end of a channel; then the broker puts it among the dead."""

UNBOUNDED = 1_000_000_000
MOST_UNROUTED = 100_000
MOST_EPHEMERAL = 10_000
EPHEMERAL_LIVES_MS = 10_000

EPHEMERAL_TYPES = tuple(name for name, message in MESSAGES.items() if message.ephemeral)
UNHEARD_TYPES = (*EPHEMERAL_TYPES, IdentityRevoked.event_type)
"""That nobody is bound for these is no fault; of any other type it means that a binding is lost."""


def exchange_of(event_type: str) -> str:
    """The exchange that events of this type are published to."""
    return EXCHANGES[MESSAGES[event_type].channel]


def queue_name(service: str) -> str:
    """Where the events of a service wait for it."""
    return f"{service}.events"


def dead_name(service: str) -> str:
    """Where what could not be delivered to a service waits to be parked."""
    return f"{service}.dead"


def ephemeral_name(service: str) -> str:
    """Where what a service may miss waits for it, for a moment."""
    return f"{service}.ephemeral"


async def declare_exchanges(channel: AbstractChannel) -> None:
    """The exchanges, and the queues of what nobody has to be bound for and of what nobody is."""
    await channel.declare_exchange(UNROUTED, ExchangeType.FANOUT, durable=True)
    unrouted = await _quorum_queue(channel, UNROUTED, {"x-max-length": MOST_UNROUTED, "x-overflow": "drop-head"})
    await unrouted.bind(UNROUTED)
    for name in EXCHANGES.values():
        arguments: FieldTable = {"alternate-exchange": UNROUTED}
        await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True, arguments=arguments)
    # What would have to wait in this queue for a consumer is forgotten at once.
    unheard = await channel.declare_queue(UNHEARD, durable=True, arguments={"x-message-ttl": 0})
    for event_type in UNHEARD_TYPES:
        await unheard.bind(exchange_of(event_type), routing_key=event_type)


async def declare_dead(channel: AbstractChannel, service: str) -> AbstractQueue:
    """The queue of what could not be delivered to a service."""
    name = dead_name(service)
    await channel.declare_exchange(DEAD, ExchangeType.DIRECT, durable=True)
    queue = await _quorum_queue(channel, name, {})
    await queue.bind(DEAD, routing_key=name)
    return queue


async def declare_service(channel: AbstractChannel, service: str, types: Iterable[str]) -> None:
    """The queues of a service, bound for the types of events that it handles."""
    await declare_dead(channel, service)
    await _quorum_queue(
        channel,
        queue_name(service),
        {
            "x-delivery-limit": MOST_DELIVERIES,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": dead_name(service),
            # With these two the broker keeps a message until the queue of the dead has confirmed it.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )
    await bind_service(channel, service, types)


async def bind_service(channel: AbstractChannel, service: str, types: Iterable[str]) -> None:
    """The bindings of a service's queue; if there is none, the channel ends with ChannelNotFoundEntity."""
    queue = await channel.get_queue(queue_name(service), ensure=False)
    for event_type in lasting(types):
        await queue.bind(exchange_of(event_type), routing_key=event_type)


async def ephemeral_queue(channel: AbstractChannel, service: str, types: Iterable[str]) -> AbstractQueue:
    """The queue of what a service handles and may miss."""
    arguments: FieldTable = {"x-max-length": MOST_EPHEMERAL, "x-message-ttl": EPHEMERAL_LIVES_MS}
    queue = await channel.declare_queue(ephemeral_name(service), durable=True, arguments=arguments)
    for event_type in types:
        if event_type in EPHEMERAL_TYPES:
            await queue.bind(exchange_of(event_type), routing_key=event_type)
    return queue


def lasting(types: Iterable[str]) -> list[str]:
    """Those of the types whose events are never to be lost, sorted."""
    return sorted(event_type for event_type in types if not MESSAGES[event_type].ephemeral)


async def _quorum_queue(channel: AbstractChannel, name: str, arguments: FieldTable) -> AbstractQueue:
    # Without a limit RabbitMQ 4 drops a message of a queue without dead letters after 20 returns.
    limited: FieldTable = {"x-queue-type": "quorum", "x-delivery-limit": UNBOUNDED, **arguments}
    return await channel.declare_queue(name, durable=True, arguments=limited)


async def declare_all(url: str, services: Mapping[str, Iterable[str]]) -> None:
    """Everything there is, for services by name with the types they handle; raises Transient."""
    link = Link(url, "dataaggregator declare")

    async def declare(channel: AbstractChannel) -> None:
        await declare_exchanges(channel)
        for service, types in services.items():
            await declare_service(channel, service, [*types, BusResendRequested.event_type])

    try:
        async with link.channel(declare):
            pass
    finally:
        await link.close()
