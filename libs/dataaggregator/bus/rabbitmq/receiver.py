"""The bus, RabbitMQ: receiving: batches from a service's queue, acknowledged when each event's outcome is committed.

Nothing is ever returned to the queue by hand. What cannot be judged because the database does not answer goes back by
itself when the channel is closed; the receiver then waits for the database. What comes a second time is suspect: it
becomes a retry row, and those are tried one at a time.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from dataaggregator.bus.consumer import Consumer
from dataaggregator.bus.rabbitmq import topology
from dataaggregator.bus.rabbitmq.arrivals import PAUSE_SECONDS, Arrivals, take_each
from dataaggregator.bus.rabbitmq.bindings import Bindings
from dataaggregator.bus.rabbitmq.link import Link
from dataaggregator.bus.rabbitmq.wire import to_event
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE, Event
from dataaggregator.db import Database
from dataaggregator.errors import Invalid, PlatformError, Transient
from dataaggregator.telemetry import logs

log = logs.get("bus")

HELD_SECONDS = 25.0
"""A batch not judged by then goes back to the queue; RabbitMQ itself waits 30 minutes, a user should not."""

UNREADABLE_IDS = UUID("6d1a6b1e-7b0e-5d0a-9c57-2f0a7c6a1f44")
"""The name space of ids for messages that carry none."""


@dataclass(frozen=True)
class Arrival:
    """A message with its event, or with what an event would be if the message were one."""

    message: AbstractIncomingMessage
    event: Event
    readable: bool


class Receiver:
    """The consuming side of one service on one queue; `run` goes on until it is cancelled."""

    def __init__(self, link: Link, database: Database, consumer: Consumer, bindings: Bindings) -> None:
        self.queue = topology.queue_name(consumer.schema)
        self._link = link
        self._database = database
        self._consumer = consumer
        self._bindings = bindings
        self._arrivals = Arrivals()
        self.consuming = False
        self.held = 0
        """Messages taken from the queue whose outcome is not committed yet."""

    @property
    def received(self) -> int:
        """Messages taken from the queue since the channel was opened."""
        return self._arrivals.received

    async def run(self) -> None:
        while True:
            try:
                await self._consume()
                log.warning("consumer_lost", queue=self.queue)
            except PlatformError as error:
                log.warning("consumer_waits", queue=self.queue, code=error.code, reason=error.detail)
            await asyncio.sleep(PAUSE_SECONDS)

    def rebuild(self) -> None:
        """Give the channel up, so that `run` makes another."""
        self._arrivals.end()

    async def _consume(self) -> None:
        """Until the channel is lost; then everything not acknowledged is in the queue again."""
        await self._database.ping()
        async with self._link.channel(self._begin) as arrivals:
            self._arrivals = arrivals
            try:
                self.consuming = True
                while batch := await arrivals.batch():
                    await self._judge(batch)
            finally:
                self.consuming, self.held = False, 0

    async def _begin(self, channel: AbstractChannel) -> Arrivals:
        await self._bindings.mend(channel)
        return await Arrivals.begin(channel, await channel.get_queue(self.queue, ensure=False))

    async def _judge(self, batch: Sequence[AbstractIncomingMessage]) -> None:
        self.held = len(batch)
        try:
            async with asyncio.timeout(HELD_SECONDS):
                await self._work(batch)
        except TimeoutError as error:
            detail = f"A batch of events was not judged within {HELD_SECONDS:g} seconds and goes back."
            raise Transient("database-unavailable", detail, retry_after=PAUSE_SECONDS) from error
        self.held = 0

    async def _work(self, batch: Sequence[AbstractIncomingMessage]) -> None:
        arrivals = [_arrival(message) for message in batch]
        await self._set_apart([each for each in arrivals if not each.readable or each.message.redelivered])
        chains: dict[tuple[str, str], list[Event]] = {}
        for each in arrivals:
            if each.readable and not each.message.redelivered:
                chains.setdefault((each.event.source, each.event.subject), []).append(each.event)
        done = await self._consumer.deliver_chains(list(chains.values()))
        if done != [len(chain) for chain in chains.values()]:
            raise Transient("database-unavailable", "The outcome of an event could not be stored.", retry_after=1.0)
        await batch[-1].ack(multiple=True)

    async def _set_apart(self, arrivals: Sequence[Arrival]) -> None:
        """What cannot be read is parked; what was delivered before waits for a try of its own."""
        for each in arrivals:
            if not each.readable:
                await self._consumer.set_aside(each.event, 1, _UNREADABLE)
        if suspects := [each.event for each in arrivals if each.readable]:
            await self._consumer.suspect(suspects)


class DeadLetters:
    """Parks what the broker gave up delivering to a service, so that a person finds it where all parked events are."""

    def __init__(self, link: Link, consumer: Consumer) -> None:
        self._link = link
        self._consumer = consumer

    async def run(self) -> None:
        """Until cancelled."""
        await take_each(self._link, topology.dead_name(self._consumer.schema), self._begin, self._park)

    async def _begin(self, channel: AbstractChannel) -> Arrivals:
        return await Arrivals.begin(channel, await topology.declare_dead(channel, self._consumer.schema))

    async def _park(self, message: AbstractIncomingMessage) -> None:
        await self._consumer.set_aside(_arrival(message).event, topology.MOST_DELIVERIES, _GIVEN_UP)
        await message.ack()


_UNREADABLE = ("event-unreadable", "This message is no event of the platform's: see its body.")
_GIVEN_UP = ("event-poisonous", f"the broker delivered it {topology.MOST_DELIVERIES} times and never heard of an end")


def _arrival(message: AbstractIncomingMessage) -> Arrival:
    try:
        return Arrival(message, to_event(message), readable=True)
    except Invalid:
        return Arrival(message, _stand_in(message), readable=False)


def _stand_in(message: AbstractIncomingMessage) -> Event:
    """What is parked in the place of a message that is no event: as much of it as can be shown."""
    body = message.body.decode(errors="replace")
    return Event.from_cloudevent(
        {
            "id": str(uuid5(UNREADABLE_IDS, f"{message.message_id} {body}")),
            "type": _shown(message.routing_key),
            "source": _shown(message.app_id),
            "subject": _shown(message.message_id),
            "sequence": 0,
            "time": "1970-01-01T00:00:00Z" if message.timestamp is None else message.timestamp.isoformat(),
            "workspaceid": str(PLATFORM_WORKSPACE),
            "data": {"body": body},
        }
    )


def _shown(text: str | None) -> str:
    return (text or "unknown").replace("\0", "\N{REPLACEMENT CHARACTER}")
