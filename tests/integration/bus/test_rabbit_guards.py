"""What the RabbitMQ adapter is guarded by, each guard where nothing else would make up for it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from dataaggregator.bus.backlog import KEEP_PUBLISHED_SECONDS
from dataaggregator.bus.rabbitmq import RabbitBus, receiver, topology
from dataaggregator.bus.rabbitmq.arrivals import PREFETCHED
from dataaggregator.bus.rabbitmq.bindings import OVERLAP
from dataaggregator.contracts.connector import ConnectorTested
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.identity import IdentityRevoked
from dataaggregator.contracts.platform import BusResendRequested
from dataaggregator.contracts.run import RunProgressed
from dataaggregator.db import Connection, Database
from dataaggregator.settings import Settings
from deploy.local.rabbitmq import Broker
from tests.faults.proxy import Proxy
from tests.integration.bus.rig import LISTENER, ORDERLY, SPEAKER, Rig, Services, an_event, eventually, is_so

SOON_SECONDS = 0.3
QUEUE = topology.queue_name(LISTENER)
BINDING = (topology.EXCHANGES["public"], ConnectorTested.event_type)


@pytest.fixture
async def rig(services: Services) -> AsyncIterator[Rig]:
    """Without a watch, so that what heals heals by itself."""
    async with services() as rig:
        yield rig


# Publishing


async def test_only_what_somebody_should_have_heard_is_kept_as_unrouted(rig: Rig, channel: AbstractChannel) -> None:
    for schema in (LISTENER, ORDERLY):
        await channel.queue_delete(topology.queue_name(schema))
    unheard, fleeting, lost = (
        an_event(IdentityRevoked(until=datetime.now(UTC))),
        an_event(RunProgressed(run_id=uuid4(), pipeline_id=uuid4(), attempt=1)),
        an_event(),
    )
    confirmed = await _bus(rig)._publisher.publish([unheard, fleeting, lost])
    assert confirmed == {unheard.id, fleeting.id, lost.id}
    unrouted = await channel.get_queue(topology.UNROUTED)
    kept = await eventually(lambda: unrouted.get(fail=False))
    assert kept.message_id == str(lost.id)
    assert await unrouted.get(fail=False) is None


async def test_what_is_said_before_anybody_listens_waits_for_them(rig: Rig, channel: AbstractChannel) -> None:
    for schema in (LISTENER, ORDERLY):
        await channel.queue_delete(topology.queue_name(schema))
    await _bus(rig).open()
    rig.start(SPEAKER)
    await rig.say()
    await eventually(lambda: _waits(channel, 1))


async def test_publishing_and_consuming_have_a_connection_each(
    rig: Rig, rabbit_server: Broker, rabbitmq_url: str
) -> None:
    rig.start()
    await rig.say()
    vhost = rabbitmq_url.rpartition("/")[2]

    async def does_each() -> bool:
        told = await asyncio.to_thread(rabbit_server.call, "GET", f"/api/vhosts/{vhost}/channels")
        channels = [each for each in told if each["connection_details"]]  # of a new one not told at once
        consuming = {each["connection_details"]["name"] for each in channels if each.get("consumer_count")}
        publishing = {each["connection_details"]["name"] for each in channels if each.get("confirm")}
        assert not consuming & publishing
        return bool(consuming and publishing)

    await eventually(does_each, 30)


# Receiving


async def test_what_is_delivered_too_often_without_an_end_is_parked(
    rig: Rig, channel: AbstractChannel, rabbitmq_url: str
) -> None:
    rig.start(SPEAKER)
    (event,) = await rig.say()
    await eventually(lambda: _waits(channel, 1))
    async with await aio_pika.connect(rabbitmq_url) as connection:
        for _ in range(topology.MOST_DELIVERIES + 1):  # each a consumer that dies of it
            async with connection.channel() as dying:
                queue = await dying.get_queue(QUEUE)
                await eventually(partial(queue.get, fail=False))
    rig.start(LISTENER, ORDERLY)
    await eventually(lambda: rig.value(f"SELECT count(*) FROM {LISTENER}.parked"))
    parked = await rig.rows(f"SELECT event_id, code, tries FROM {LISTENER}.parked")
    assert [tuple(row) for row in parked] == [(event, "event-poisonous", topology.MOST_DELIVERIES)]
    assert await rig.effects(LISTENER) == []


async def test_a_database_that_is_away_for_long_costs_no_event_and_no_tries(
    services: Services,
    database: Database,
    settings: Settings,
    channel: AbstractChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiver, "PAUSE_SECONDS", 0.02)
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    async with Proxy(urlsplit(url).port or 5432) as proxy:
        through = Database(proxy.through(url), settings)
        await through.open()
        calls = 0

        async def cut(event: Event, tx: Connection) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                await proxy.refuse()
                proxy.cut()

        async with services(database=through) as rig:
            rig.database = database
            rig.hooks[LISTENER] = cut
            rig.start()
            events = await rig.say(times=3)
            listening = _receiver(rig)
            await eventually(lambda: is_so(calls == 1 and not listening.consuming))
            # So long that a consumer that went on taking messages would take each for the last time allowed.
            ended, _ = await asyncio.wait(rig.tasks, timeout=3)
            assert not ended
            await proxy.open()
            await eventually(lambda: rig.value(f"SELECT count(*) = 3 FROM {LISTENER}.effects"))
            assert {effect["event_id"] for effect in await rig.effects(LISTENER)} == set(events)
            assert await rig.value(f"SELECT count(*) FROM {LISTENER}.parked") == 0
        await through.close()


async def test_no_event_is_held_over_the_limit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "HELD_SECONDS", 0.5)
    calls = 0

    async def hang(event: Event, tx: Connection) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()

    rig.hooks[LISTENER] = hang
    rig.start()
    await rig.say()
    await eventually(lambda: rig.value(f"SELECT count(*) FROM {LISTENER}.effects"))
    assert _receiver(rig).held == 0
    assert calls == 2


async def test_a_consumer_takes_no_more_than_so_many_at_once(rig: Rig, channel: AbstractChannel) -> None:
    go_on = asyncio.Event()

    async def hang(event: Event, tx: Connection) -> None:
        await go_on.wait()

    rig.hooks[LISTENER] = hang
    rig.start(SPEAKER)
    await rig.say(times=PREFETCHED + 50)
    await eventually(lambda: _waits(channel, PREFETCHED + 50))
    rig.start(LISTENER, ORDERLY)
    await eventually(lambda: is_so(_receiver(rig).received == PREFETCHED))
    await eventually(lambda: _waits(channel, 50))
    go_on.set()
    await eventually(lambda: rig.value(f"SELECT count(*) = {PREFETCHED + 50} FROM {LISTENER}.effects"))


async def test_a_lost_connection_is_made_anew_without_the_watch(rig: Rig) -> None:
    await _at_work(rig)
    await (await _driver(rig)).close()
    await rig.say()
    await eventually(lambda: rig.value(f"SELECT count(*) = 2 FROM {LISTENER}.effects"))


async def test_a_consumer_that_the_broker_cancels_comes_back_without_the_watch(
    rig: Rig, channel: AbstractChannel
) -> None:
    await _at_work(rig)
    await channel.queue_delete(QUEUE)
    await rig.say()
    await eventually(lambda: rig.value(f"SELECT count(*) = 2 FROM {LISTENER}.effects"))


# The watch


async def test_a_consumer_that_only_seems_to_live_is_rebuilt(services: Services) -> None:
    async with services(SOON_SECONDS) as rig:
        await _at_work(rig)
        await _stop_deliveries(rig)
        await rig.say()
        await eventually(lambda: rig.value(f"SELECT count(*) = 2 FROM {LISTENER}.effects"))


async def test_a_queue_that_went_without_a_word_is_made_anew(services: Services, channel: AbstractChannel) -> None:
    async with services(SOON_SECONDS) as rig:
        await _at_work(rig)
        await _stop_deliveries(rig)  # so that nobody hears of it
        await channel.queue_delete(QUEUE)
        await rig.say()
        await eventually(lambda: rig.value(f"SELECT count(*) = 2 FROM {LISTENER}.effects"))


@pytest.mark.parametrize("lose", ["the queue", "a binding"])
async def test_what_goes_while_the_watch_looks_is_missed_all_the_same(
    services: Services, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch, lose: str
) -> None:
    """Between the look at its bindings and the binding: whoever made it anew there would hide that it was gone."""
    async with services(SOON_SECONDS) as rig:
        await _at_work(rig)
        bindings = _bus(rig)._subscriptions[LISTENER].bindings
        look = bindings._bound

        async def look_and_lose() -> set[tuple[str, str]] | None:
            monkeypatch.setattr(bindings, "_bound", look)
            bound = await look()
            if lose == "the queue":
                await channel.queue_delete(QUEUE)
            else:
                await (await channel.get_queue(QUEUE)).unbind(*BINDING)
            await rig.say()
            await eventually(lambda: rig.value(f"SELECT count(*) = 0 FROM {SPEAKER}.outbox WHERE published_at IS NULL"))
            return bound

        monkeypatch.setattr(bindings, "_bound", look_and_lose)
        await eventually(lambda: rig.value(f"SELECT count(*) = 2 FROM {LISTENER}.effects"))


async def test_a_lost_binding_is_bound_anew_also_where_it_cannot_be_seen(
    services: Services, channel: AbstractChannel, rabbit_server: Broker, rabbitmq_url: str
) -> None:
    where = f"/api/queues/{rabbitmq_url.rpartition('/')[2]}/{QUEUE}/bindings"

    async def bound() -> bool:
        found = await asyncio.to_thread(rabbit_server.call, "GET", where)
        return BINDING in {(each["source"], each["routing_key"]) for each in found}

    async with services(SOON_SECONDS, managed=False) as rig:
        await _at_work(rig)
        await (await channel.get_queue(QUEUE)).unbind(*BINDING)
        await eventually(bound)


async def test_what_went_with_a_queue_is_asked_for_however_old(rig: Rig, channel: AbstractChannel) -> None:
    """With a binding only what came since the last look is lost, with a queue also what waited in it."""
    bindings = _bus(rig)._subscriptions[LISTENER].bindings
    asked: list[timedelta] = []

    async def lose(what: Any) -> None:
        await what
        looked_at = datetime.now(UTC)
        await bindings.mend(channel)
        (row,) = await rig.rows(
            f"SELECT data FROM {LISTENER}.outbox WHERE type = $1 ORDER BY position DESC LIMIT 1",
            BusResendRequested.event_type,
        )
        asked.append(looked_at - BusResendRequested.model_validate(row["data"]).since)

    await bindings.mend(channel)
    await lose((await channel.get_queue(QUEUE)).unbind(*BINDING))
    await lose(channel.queue_delete(QUEUE))
    of_a_binding, of_a_queue = asked
    minute = timedelta(minutes=1)
    assert OVERLAP <= of_a_binding < OVERLAP + minute
    assert timedelta(seconds=KEEP_PUBLISHED_SECONDS) - minute < of_a_queue


# Pieces


def _bus(rig: Rig) -> RabbitBus:
    assert isinstance(rig.bus, RabbitBus)
    return rig.bus


def _receiver(rig: Rig) -> receiver.Receiver:
    return _bus(rig)._subscriptions[LISTENER].receiver


async def _at_work(rig: Rig) -> None:
    """Everybody consumes, and one event has come."""
    rig.start()
    await rig.say()
    await eventually(lambda: rig.value(f"SELECT count(*) = 1 FROM {LISTENER}.effects"))


async def _driver(rig: Rig) -> Any:
    """The driver's own connection of those who consume."""
    connection: Any = await _bus(rig)._consuming.connection()
    return connection.transport.connection


async def _stop_deliveries(rig: Rig) -> None:
    """Nothing is delivered any more on channels that stay open."""
    for channel in list((await _driver(rig)).channels.values()):
        for tag in list(getattr(channel, "consumers", ())):
            await channel.basic_cancel(tag)


async def _waits(channel: AbstractChannel, count: int) -> bool:
    """Whether so many messages are ready in the listener's queue."""
    queue = await channel.declare_queue(QUEUE, passive=True)
    return queue.declaration_result.message_count == count
