"""When nobody answers: a confirm that never comes, a database or a queue that is away; what is there then is kept."""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from dataaggregator.bus.rabbitmq import RabbitBus, arrivals, link, publisher, topology
from dataaggregator.bus.rabbitmq.wire import to_message
from dataaggregator.db import Database
from dataaggregator.settings import Settings
from deploy.local.rabbitmq import Broker
from tests.faults.proxy import Proxy, Side
from tests.integration.bus.rig import (
    LISTENER,
    NEVER_SECONDS,
    SPEAKER,
    Rig,
    Services,
    an_event,
    eventually,
    is_so,
)

QUEUE = topology.queue_name(LISTENER)
DEAD = topology.dead_name(LISTENER)
LONGEST_TELL_SECONDS = 30.0
"""The broker tells the management API every five seconds how its queues are, and that keeps it for as long."""


async def test_an_event_whose_confirm_never_comes_goes_out_again_and_is_applied_once(
    services: Services, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "HEARTBEAT_SECONDS", int(NEVER_SECONDS))
    monkeypatch.setattr(link, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(publisher, "CONFIRM_SECONDS", 0.5)
    async with (
        Proxy(urlsplit(rabbitmq_url).port or 5672) as proxy,
        services(broker_url=proxy.through(rabbitmq_url)) as rig,
    ):
        bus = _bus(rig)
        rig.start()
        await rig.say()
        await eventually(lambda: rig.value(f"SELECT count(*) = 1 FROM {LISTENER}.effects"))
        await eventually(lambda: rig.value(f"SELECT count(*) = 0 FROM {SPEAKER}.outbox WHERE published_at IS NULL"))
        before = bus._publisher._confirmed
        proxy.black_hole(Side.CLIENT)
        (event,) = await rig.say()
        await eventually(lambda: is_so(bus._publisher._confirmed is not before))
        assert await rig.value(f"SELECT published_at IS NULL FROM {SPEAKER}.outbox WHERE id = $1", event)
        proxy.heal()
        await eventually(lambda: is_so(bus._subscriptions[LISTENER].receiver.received == 3))
        await eventually(lambda: rig.value(f"SELECT count(*) = 0 FROM {SPEAKER}.outbox WHERE published_at IS NULL"))
        await rig.settled()
        effects = [effect["event_id"] for effect in await rig.effects(LISTENER)]
        assert (len(effects), effects[-1]) == (2, event)


async def test_a_dead_letter_that_cannot_be_parked_now_is_parked_later(
    services: Services,
    database: Database,
    settings: Settings,
    channel: AbstractChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "PAUSE_SECONDS", 0.02)
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    async with Proxy(urlsplit(url).port or 5432) as proxy:
        through = Database(proxy.through(url), settings)
        await through.open()
        async with services(database=through) as rig:
            rig.database = database
            consumer = _bus(rig)._subscriptions[LISTENER].consumer
            park, tries = consumer.set_aside, 0

            async def counted(*what: Any) -> None:
                nonlocal tries
                tries += 1
                await park(*what)

            monkeypatch.setattr(consumer, "set_aside", counted)
            event = an_event()
            await (await channel.get_exchange(topology.DEAD)).publish(to_message(event), routing_key=DEAD)
            await proxy.refuse()
            proxy.cut()
            rig.start(LISTENER)
            await eventually(lambda: is_so(tries >= 2))
            await proxy.open()
            await eventually(lambda: rig.value(f"SELECT count(*) FROM {LISTENER}.parked"))
            parked = await rig.rows(f"SELECT event_id, code FROM {LISTENER}.parked")
            assert [tuple(row) for row in parked] == [(event.id, "event-poisonous")]
        await through.close()
    assert (await channel.declare_queue(DEAD, passive=True)).declaration_result.message_count == 0


async def test_what_was_delivered_too_often_is_kept_while_there_is_no_queue_of_the_dead(
    services: Services, channel: AbstractChannel, rabbitmq_url: str, rabbit_server: Broker
) -> None:
    where = f"/api/queues/{rabbitmq_url.rpartition('/')[2]}/{QUEUE}"

    async def kept() -> bool:
        told = await asyncio.to_thread(rabbit_server.call, "GET", where)
        return bool(told.get("messages_dlx") == 1)

    async with services() as rig:
        await channel.queue_delete(DEAD)
        rig.start(SPEAKER)
        await rig.say()
        async with await aio_pika.connect(rabbitmq_url) as connection:
            for _ in range(topology.MOST_DELIVERIES + 1):  # each a consumer that dies of it
                async with connection.channel() as dying:
                    await eventually(partial((await dying.get_queue(QUEUE)).get, fail=False))
        await eventually(kept, LONGEST_TELL_SECONDS)


# Pieces


def _bus(rig: Rig) -> RabbitBus:
    assert isinstance(rig.bus, RabbitBus)
    return rig.bus
