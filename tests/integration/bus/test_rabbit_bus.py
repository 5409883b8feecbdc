"""The RabbitMQ adapter passes the suite of its port; what is its own: returns, redeliveries, bindings, strangers."""

from collections.abc import Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from dataaggregator.bus import Bus
from dataaggregator.bus.rabbitmq import RabbitBus, declare_all, topology
from dataaggregator.bus.rabbitmq.wire import to_message
from dataaggregator.contracts.connector import ConnectorTested
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, Database
from dataaggregator.errors import Transient
from dataaggregator.settings import Settings
from deploy.local.rabbitmq import Broker
from tests.integration.bus.conformance import BusConformance
from tests.integration.bus.rig import LISTENED, LISTENER, ORDERLY, SCHEMAS, SPEAKER, Rig, an_event, eventually

WATCH_SECONDS = 0.5


def with_attribute(name: str, value: str) -> aio_pika.Message:
    message = to_message(an_event())
    message.headers[f"cloudEvents_{name}"] = value
    return message


STRANGE: tuple[Callable[[], aio_pika.Message], ...] = (
    lambda: aio_pika.Message(b"no json"),
    lambda: aio_pika.Message(b"{}"),
    lambda: aio_pika.Message(b"{}", message_id="nul \0", app_id="nul \0"),
    lambda: with_attribute("subject", "nul \0"),
    lambda: with_attribute("subject", "x" * 3_000),  # more than an index takes
    lambda: with_attribute("sequence", str(2**63)),
)


class TestRabbitBus(BusConformance):
    @pytest.fixture(autouse=True)
    async def declared(self, rabbitmq_url: str, rabbit_server: Broker) -> None:
        """What `dataaggregator bus declare` does before services start."""
        types = {schema: [message.event_type for message in messages] for schema, messages in LISTENED.items()}
        await declare_all(rabbitmq_url, types)
        self.url = rabbitmq_url
        self.management = rabbit_server.management_url.replace(
            "://", f"://{rabbit_server.user}:{rabbit_server.password}@"
        )

    def make_bus(self, database: Database, settings: Settings) -> Bus:
        changed = settings.model_validate(
            {
                **settings.model_dump(exclude_unset=True),
                "rabbitmq_management_url": self.management,
                "bus_watch_seconds": WATCH_SECONDS,
            }
        )
        return RabbitBus(self.url, database, changed)

    async def idle(self, bus: Bus) -> bool:
        """No message waits in a queue, none is held."""
        assert isinstance(bus, RabbitBus)
        if any(subscription.receiver.held for subscription in bus._subscriptions.values()):
            return False
        connection = await bus._consuming.connection()
        for schema in bus._subscriptions:
            try:
                async with connection.channel() as channel:
                    queue = await channel.declare_queue(topology.queue_name(schema), passive=True)
            except ChannelNotFoundEntity:
                return False
            if queue.declaration_result.message_count:
                return False
        return True

    async def test_an_event_that_no_queue_takes_is_not_published(self, rig: Rig, channel: AbstractChannel) -> None:
        assert isinstance(rig.bus, RabbitBus)
        publisher, event = rig.bus._publisher, an_event(sequence=9)
        assert await publisher.publish([event]) == {event.id}
        for queue in (topology.UNROUTED, *(topology.queue_name(schema) for schema in SCHEMAS)):
            await channel.queue_delete(queue)
        assert await publisher.publish([event]) == set()
        assert await publisher.publish([event]) == {event.id}, "the queue of what nobody takes is made anew"

    async def test_a_strangers_message_is_parked_and_stops_nobody(self, rig: Rig, channel: AbstractChannel) -> None:
        rig.start()
        await rig.say()
        await rig.settled()
        exchange = await channel.get_exchange(topology.EXCHANGES["public"])
        for strange in STRANGE:
            await exchange.publish(strange(), routing_key=ConnectorTested.event_type)
        await rig.say()
        await eventually(lambda: rig.value(f"SELECT count(*) = {len(STRANGE)} FROM {LISTENER}.parked"))
        codes = await rig.rows(f"SELECT DISTINCT code FROM {LISTENER}.parked")
        assert [row["code"] for row in codes] == ["event-unreadable"]
        await rig.settled()
        assert len(await rig.effects(LISTENER)) == 2

    async def test_what_was_delivered_before_is_tried_alone_and_applied_once(
        self, rig: Rig, channel: AbstractChannel
    ) -> None:
        await topology.declare_exchanges(channel)
        await topology.declare_service(channel, LISTENER, [ConnectorTested.event_type])
        rig.start(SPEAKER)
        for number in range(5):
            await rig.say(f"s{number}")
        queue = await channel.get_queue(topology.queue_name(LISTENER))
        taken = [await queue.get(timeout=10, fail=False) for _ in range(1)]
        while len(taken) < 5:
            message = await queue.get(timeout=10, fail=False)
            taken += [message] if message else []
        await channel.close()  # as a consumer that died: all five come again
        busy: list[int] = [0]

        async def look(event: Event, tx: Connection) -> None:
            busy.append(busy[-1] + 1)
            await tx.execute("SELECT 1")
            busy.append(busy[-1] - 1)

        rig.hooks[LISTENER] = look
        rig.start(LISTENER, ORDERLY)
        await eventually(lambda: rig.value(f"SELECT count(*) = 5 FROM {LISTENER}.effects"))
        await rig.settled()
        assert busy == [0, *[1, 0] * 5], f"one at a time, and once: {busy}"
        assert await rig.value(f"SELECT count(DISTINCT xmin::text) FROM {LISTENER}.effects") == 5

    async def test_what_the_broker_gave_up_delivering_is_parked(self, rig: Rig, channel: AbstractChannel) -> None:
        rig.start()
        await rig.say()
        await rig.settled()
        exchange = await channel.get_exchange(topology.DEAD)
        event = an_event(sequence=9)
        await exchange.publish(to_message(event), routing_key=topology.dead_name(LISTENER))
        await eventually(lambda: rig.value(f"SELECT code FROM {LISTENER}.parked WHERE event_id = $1", event.id))
        assert await rig.value(f"SELECT code FROM {LISTENER}.parked") == "event-poisonous"

    async def test_a_consumer_that_the_broker_cancelled_comes_back(self, rig: Rig, channel: AbstractChannel) -> None:
        rig.start()
        await rig.say()
        await rig.settled()
        await channel.queue_delete(topology.queue_name(LISTENER))
        await self._heals(rig)
        await rig.say()
        await rig.settled()
        assert len(await rig.effects(LISTENER)) == 2

    async def test_a_lost_binding_is_noticed_mended_and_what_it_cost_comes_after_all(
        self, rig: Rig, channel: AbstractChannel
    ) -> None:
        rig.start()
        await rig.say()
        await rig.settled()
        queue = await channel.get_queue(topology.queue_name(ORDERLY))
        await queue.unbind(topology.EXCHANGES["public"], ConnectorTested.event_type)
        await rig.say(times=3)
        await eventually(lambda: rig.value(f"SELECT count(*) = 4 FROM {LISTENER}.effects"))
        await eventually(lambda: rig.value(f"SELECT count(*) = 4 FROM {ORDERLY}.effects"))
        await self._heals(rig)
        assert [effect["sequence"] for effect in await rig.effects(ORDERLY)] == [1, 2, 3, 4]

    async def test_a_broken_bus_is_told(self, rig: Rig, channel: AbstractChannel) -> None:
        rig.start()
        await self._heals(rig)
        seen: list[str] = []

        async def told() -> bool:
            try:
                await rig.bus.ping()
            except Transient as error:
                seen.append(error.code)
            return bool(seen)

        await channel.queue_delete(topology.queue_name(LISTENER))
        await eventually(told)
        assert seen[0] in {"bus-topology-differs", "bus-unavailable"}
        await self._heals(rig)

    async def _heals(self, rig: Rig) -> None:
        """All is well again, as the bus itself says."""

        async def well() -> bool:
            try:
                await rig.bus.ping()
            except Transient:
                return False
            return isinstance(rig.bus, RabbitBus) and all(
                subscription.receiver.consuming for subscription in rig.bus._subscriptions.values()
            )

        await eventually(well)


def test_the_types_bound_are_those_that_must_not_be_lost() -> None:
    assert topology.lasting(["run.progressed.v1", "run.queued.v1"]) == ["run.queued.v1"]
