"""The embedded adapter passes the suite of its port, and what is its own."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from dataaggregator.bus import Bus, EmbeddedBus, Handler, emit, ephemeral
from dataaggregator.bus.consumer import CALLS_OF_A_DELIVERY, Consumer
from dataaggregator.bus.recovery import MOST_RECOVERIES
from dataaggregator.bus.relay import EVENT_COLUMNS, Relay
from dataaggregator.bus.verdict import MOST_TRIES, MOST_UNJUDGED_TRIES, Park
from dataaggregator.contracts.connector import ConnectorCreated, ConnectorTested
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, Database
from dataaggregator.errors import Invalid
from dataaggregator.settings import Settings
from tests.integration.bus.conformance import BusConformance
from tests.integration.bus.rig import CONNECTOR_MESSAGES, ORDERLY, SPEAKER, WORKSPACE, DeathError, Rig, eventually


class CutError(Exception):
    """The process dies here."""


class TestEmbeddedBus(BusConformance):
    def make_bus(self, database: Database, settings: Settings) -> Bus:
        return EmbeddedBus(database, settings)

    async def test_an_event_that_nobody_handles_any_more_is_parked_for_a_person(self, rig: Rig) -> None:
        message = ConnectorTested(connector_id=uuid4(), ok=True)
        event = ephemeral(message, subject="one", workspace=WORKSPACE, source=SPEAKER)
        consumer = Consumer(rig.database, "listener", [])
        assert isinstance(await consumer.deliver(event, tries=3, waited=True), Park)
        assert await rig.value("SELECT code FROM listener.parked") == "event-unreadable"

    async def test_cut_between_the_handlers_commit_and_the_mark_it_is_delivered_again_and_applied_once(
        self, rig: Rig, settings: Settings
    ) -> None:
        applied: list[UUID] = []

        async def handle(event: Event, tx: Connection) -> None:
            applied.append(event.id)

        consumer = Consumer(rig.database, "listener", [Handler("listener", m, handle) for m in CONNECTOR_MESSAGES])
        deliveries = 0

        async def publish(events: Sequence[Event]) -> set[UUID]:
            nonlocal deliveries
            for event in events:
                await consumer.deliver(event)
            deliveries += 1
            if deliveries == 1:
                raise CutError
            return {event.id for event in events}

        events = await rig.say(times=3)
        relay = Relay(rig.database, SPEAKER, publish, settings.relay_poll_seconds)
        connection = await rig.database.connect("platform")
        try:
            with pytest.raises(CutError):
                await relay.relay(connection)
            assert await relay.relay(connection) == (3, 3)
            assert await relay.relay(connection) == (0, 0)
        finally:
            await connection.close()
        assert deliveries == 2
        assert applied == events

    async def test_an_event_whose_verdict_cannot_be_stored_stays_in_the_outbox(
        self, rig: Rig, settings: Settings
    ) -> None:
        closed = Database("postgresql://nobody@127.0.0.1:1/nothing", settings)
        bus = EmbeddedBus(closed, settings)

        async def handle(event: Event, tx: Connection) -> None:
            raise AssertionError("never reached")

        bus.subscribe("listener", [Handler("listener", ConnectorCreated, handle)])
        event = Event.from_cloudevent(
            {
                "id": str(uuid4()),
                "type": ConnectorCreated.event_type,
                "source": "speaker",
                "subject": "one",
                "sequence": 1,
                "time": "2026-01-01T00:00:00Z",
                "workspaceid": str(uuid4()),
                "data": {},
            }
        )
        assert await bus._publish([event]) == set()

    async def test_an_event_that_ends_the_process_is_parked_in_the_end_and_nobody_else(
        self, rig: Rig, settings: Settings
    ) -> None:
        died = 0

        async def die(event: Event, tx: Connection) -> None:
            nonlocal died
            if event.subject == "killer":
                died += 1
                raise DeathError

        rig.hooks["listener"] = die
        before = await rig.say("before")
        (killer,) = await rig.say("killer")
        after = await rig.say("after", times=3)
        for _ in range(MOST_RECOVERIES + 1):  # each turn is a new process
            bus = EmbeddedBus(rig.database, settings)
            life = Rig(rig.database, bus, rig.hooks)
            life.subscribe()
            relay = asyncio.ensure_future(bus.loops(SPEAKER)[f"{SPEAKER}-relay"]())
            await asyncio.wait([relay], timeout=2)
            relay.cancel()
            await asyncio.gather(relay, return_exceptions=True)
        assert died == MOST_RECOVERIES
        await rig.settled()
        parked = await rig.rows("SELECT event_id, code FROM listener.parked")
        assert [tuple(row) for row in parked] == [(killer, "event-poisonous")]
        assert {effect["event_id"] for effect in await rig.effects("listener")} == {*before, *after}

    async def test_what_was_left_in_two_outboxes_is_recovered_one_after_the_other(self, rig: Rig) -> None:
        """Each recovery counts against its event, and it shall be no other one that ends the process meanwhile."""
        began, go_on = asyncio.Event(), asyncio.Event()

        async def hang(event: Event, tx: Connection) -> None:
            began.set()
            await go_on.wait()

        rig.hooks["listener"] = hang
        await rig.say()
        message = ConnectorTested(connector_id=uuid4(), ok=True)
        async with rig.database.transaction(WORKSPACE) as tx:
            await emit(tx, ORDERLY, message, subject="two", workspace=WORKSPACE, source=ORDERLY)
        await rig.bus.open()  # as the next process does
        rig.start(SPEAKER)
        await asyncio.wait_for(began.wait(), 20)
        rig.start(ORDERLY)
        ended, _ = await asyncio.wait(rig.tasks, timeout=1)
        assert not ended
        recoveries = f"SELECT recoveries FROM {ORDERLY}.outbox"
        assert await rig.value(recoveries) == 0
        go_on.set()
        await eventually(lambda: rig.value(f"SELECT count(*) = 0 FROM {ORDERLY}.outbox WHERE published_at IS NULL"))
        assert await rig.value(recoveries) == 1

    async def test_what_is_said_after_the_start_was_delivered_by_nobody_before(self, rig: Rig) -> None:
        async def refuse(event: Event, tx: Connection) -> None:
            raise Invalid("conflict", "no")

        rig.hooks["listener"] = refuse
        await rig.say()  # by this process, though before its relay has begun
        rig.start()
        await rig.settled()
        assert await rig.value("SELECT tries FROM listener.parked") == 1

    async def test_calls_in_vain_before_the_end_of_the_process_count(self, rig: Rig) -> None:
        calls: list[UUID] = []

        async def fail(event: Event, tx: Connection) -> None:
            if event.id == poison:
                calls.append(event.id)
                if len(calls) == CALLS_OF_A_DELIVERY:
                    raise DeathError
                raise ZeroDivisionError

        rig.hooks["listener"] = fail
        poison, *others = [*await rig.say("poison", times=2), *await rig.say("other")]
        rows = await rig.rows(f"SELECT {EVENT_COLUMNS} FROM {SPEAKER}.outbox ORDER BY position")
        assert isinstance(rig.bus, EmbeddedBus)
        with pytest.raises(BaseExceptionGroup):
            await rig.bus._publish([Event.model_validate(dict(row)) for row in rows])
        await rig.bus.open()  # as the next process does
        rig.start(SPEAKER)
        await eventually(lambda: rig.value("UPDATE listener.retries SET due_at = now() RETURNING true"))
        consumer = rig.bus._consumers["listener"]
        while await rig.value("SELECT count(*) FROM listener.retries"):
            await rig.execute("UPDATE listener.retries SET due_at = now()")
            await consumer.retry_due()
        await rig.settled()
        assert calls == [poison] * MOST_TRIES
        assert {effect["event_id"] for effect in await rig.effects("listener")} == set(others)

    async def test_a_retry_that_ends_the_process_is_parked_in_the_end(self, rig: Rig) -> None:
        (event_id,) = await rig.say()
        deaths = 0

        async def die(event: Event, tx: Connection) -> None:
            nonlocal deaths
            deaths += 1
            if deaths == 1:
                raise ZeroDivisionError
            raise DeathError

        consumer = Consumer(rig.database, "listener", [Handler("listener", ConnectorTested, die)])
        (row,) = await rig.rows(f"SELECT {EVENT_COLUMNS} FROM {SPEAKER}.outbox")
        await consumer.deliver(Event.model_validate(dict(row)))
        for _ in range(MOST_UNJUDGED_TRIES):
            await rig.execute("UPDATE listener.retries SET due_at = now()")
            with pytest.raises(BaseExceptionGroup):
                await consumer.retry_due()
        await rig.execute("UPDATE listener.retries SET due_at = now()")
        assert await consumer.retry_due() == 1
        assert deaths == 1 + MOST_UNJUDGED_TRIES
        assert await rig.value("SELECT event_id FROM listener.parked WHERE code = 'event-poisonous'") == event_id


def test_two_handlers_for_one_message_are_refused() -> None:
    async def handle(event: Event, tx: Connection) -> None: ...

    with pytest.raises(ValueError, match="twice"):
        Consumer(None, "x", [Handler("x", ConnectorCreated, handle)] * 2)  # type: ignore[arg-type]


def test_ordering_one_message_of_a_family_and_not_the_others_is_refused() -> None:
    async def handle(event: Event, tx: Connection) -> None: ...

    with pytest.raises(ValueError, match=r"must handle and order connector\.updated\.v1"):
        Consumer(None, "x", [Handler("x", ConnectorCreated, handle, ordered=True)])  # type: ignore[arg-type]
