"""Events that come twice and in any order are applied once, each subject's in the order they were said."""

import asyncio
import random
from collections.abc import Sequence

import aio_pika
import pytest

from dataaggregator.bus.rabbitmq import topology
from dataaggregator.bus.rabbitmq.wire import to_message
from dataaggregator.bus.relay import EVENT_COLUMNS
from dataaggregator.contracts.envelope import Event
from tests.faults import invariants
from tests.faults.invariants import Connection
from tests.faults.small_bus import BUS
from tests.integration.bus.rig import LISTENER, ORDERLY, SPEAKER, Rig

pytestmark = pytest.mark.faults

# So many events at each of the tries: 10^3 in `make test`, 10^5 in `make test-faults`.
SUBJECTS, EACH = 100, 10
TWICE = 0.1


@pytest.mark.tries(1, 100)
async def test_doubled_and_shuffled_events_are_applied_once_in_their_order(
    rig: Rig, connection: Connection, rabbitmq_url: str, chance: random.Random
) -> None:
    for number in range(SUBJECTS):
        await rig.say(f"s{number}", times=EACH)
    rows = await rig.rows(f"UPDATE {SPEAKER}.outbox SET published_at = now() RETURNING {EVENT_COLUMNS}")
    events = [Event.model_validate(dict(row)) for row in rows]
    copies = [*events, *chance.sample(events, int(len(events) * TWICE))]
    chance.shuffle(copies)
    rig.start(LISTENER, ORDERLY)
    await publish(rabbitmq_url, copies)
    await invariants.check_events(connection, BUS)
    await invariants.check_order(connection, f"{ORDERLY}.effects")
    assert len(await rig.effects(ORDERLY)) == SUBJECTS * EACH


async def publish(rabbitmq_url: str, events: Sequence[Event]) -> None:
    """As they stand, by somebody whom nobody keeps from saying a thing twice."""
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        exchange = await channel.get_exchange(topology.exchange_of(events[0].type))
        await asyncio.gather(*(exchange.publish(to_message(event), routing_key=event.type) for event in events))
