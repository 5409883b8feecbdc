"""Events that come twice and in any order are applied once, each subject's in the order they were said."""

import asyncio
import os
import random
from collections.abc import Sequence
from uuid import uuid4

import aio_pika
import pytest

from dataaggregator.bus import Said, emit_all
from dataaggregator.bus.rabbitmq import topology
from dataaggregator.bus.rabbitmq.wire import to_message
from dataaggregator.bus.relay import EVENT_COLUMNS
from dataaggregator.contracts.connector import ConnectorTested
from dataaggregator.contracts.envelope import Event
from tests.faults.at_rest import SmallBus
from tests.integration.bus.rig import LISTENER, ORDERLY, SPEAKER, WORKSPACE, Rig

pytestmark = pytest.mark.faults

# So many events at each of the tries: 10^3 in `make test`, 20 times 5,000 in `make test-faults`.
SUBJECTS, EACH = (500 if os.environ.get("FAULTS") == "all" else 100), 10
TWICE = 0.1


@pytest.mark.tries(1, 20)
async def test_doubled_and_shuffled_events_are_applied_once_in_their_order(
    rig: Rig, small_bus: SmallBus, rabbitmq_url: str, chance: random.Random
) -> None:
    message = ConnectorTested(connector_id=uuid4(), ok=True)
    async with rig.database.transaction(WORKSPACE) as tx:
        said = [Said(message, f"s{number}", WORKSPACE) for number in range(SUBJECTS) for _ in range(EACH)]
        await emit_all(tx, SPEAKER, said, source=SPEAKER)
    rows = await rig.rows(f"UPDATE {SPEAKER}.outbox SET published_at = now() RETURNING {EVENT_COLUMNS}")
    events = [Event.model_validate(dict(row)) for row in rows]
    copies = [*events, *chance.sample(events, int(len(events) * TWICE))]
    chance.shuffle(copies)
    rig.start(LISTENER, ORDERLY)
    await publish(rabbitmq_url, copies)
    await small_bus.check()
    assert len(await rig.effects(ORDERLY)) == SUBJECTS * EACH


async def publish(rabbitmq_url: str, events: Sequence[Event]) -> None:
    """As they stand, by somebody whom nobody keeps from saying a thing twice.

    The channel is closed by itself: the answer to that comes behind all that was said, where the end of a connection
    drops what still waits to be written.
    """
    async with (
        await aio_pika.connect(rabbitmq_url) as connection,
        connection.channel(publisher_confirms=False) as channel,
    ):
        exchange = await channel.get_exchange(topology.exchange_of(events[0].type))
        await asyncio.gather(*(exchange.publish(to_message(event), routing_key=event.type) for event in events))
