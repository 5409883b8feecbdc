"""The way of events as a state machine: commits, relays, confirms, deliveries and deaths in any order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, invariant, precondition, rule

from dataaggregator.bus import emit
from dataaggregator.bus.consumer import Consumer
from dataaggregator.bus.embedded import EmbeddedBus
from dataaggregator.bus.relay import Relay
from dataaggregator.contracts.connector import ConnectorTested
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, Database
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from tests.faults.machine import Machine, run_machine
from tests.faults.virtual_clock import VirtualClock, virtual_clock
from tests.integration.bus.rig import LISTENER, ORDERLY, SCHEMAS, SPEAKER, WORKSPACE, DeathError, Rig, make_schemas

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SUBJECTS = ("one", "two")
LISTENERS = (LISTENER, ORDERLY)
A_WHILE = timedelta(minutes=10)
Publish = Callable[[Sequence[Event]], set[UUID]]


@dataclass
class World:
    database: Database
    rig: Rig
    clock: VirtualClock


@pytest.fixture
async def world(settings: Settings, database_url: str) -> AsyncIterator[World]:
    await make_schemas(database_url)
    async with virtual_clock(database_url) as clock:
        database = Database(database_url, settings)
        await database.open()
        yield World(database, Rig(database, EmbeddedBus(database, settings)), clock)
        await database.close()


@dataclass
class Wire:
    """What was sent to each listener and is not acknowledged; `again` if it was delivered before."""

    sent: dict[str, list[tuple[Event, bool]]] = field(default_factory=lambda: {schema: [] for schema in LISTENERS})

    def put(self, event: Event) -> None:
        for waiting in self.sent.values():
            waiting.append((event, False))


class Events(Machine[World]):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.committed: list[tuple[str, int]] = []
        self.wire = Wire()
        self.consumers: dict[str, Consumer] = {}

    @initialize()
    def begin(self) -> None:
        self.wait(self._begin())

    async def _begin(self) -> None:
        tables = ("outbox", "inbox", "retries", "parked", "effects", "subject_sequences", "subject_positions")
        wiped = ", ".join(f"{schema}.{table}" for schema in SCHEMAS for table in tables)
        await self.world.clock.connection.execute(f"TRUNCATE {wiped}")
        await self.world.clock.set(self.now, 0.0)
        for schema in LISTENERS:
            self.consumers[schema] = Consumer(self.world.database, schema, self.world.rig.handlers(schema))

    @rule(subjects=st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=4), commits=st.booleans())
    def say(self, subjects: list[str], commits: bool) -> None:
        """What a transaction that failed has said was never said."""
        with suppress(DeathError):
            self.wait(self._say(subjects, commits))
        if commits:
            self._count(subjects)

    async def _say(self, subjects: list[str], commits: bool) -> None:
        async with self.world.database.transaction(WORKSPACE) as tx:
            await self._emit(tx, subjects)
            if not commits:
                raise DeathError

    async def _emit(self, tx: Connection, subjects: list[str]) -> None:
        for subject in subjects:
            message = ConnectorTested(connector_id=new_id(), ok=True)
            await emit(tx, SPEAKER, message, subject=subject, workspace=WORKSPACE, source=SPEAKER)

    def _count(self, subjects: list[str]) -> None:
        for subject in subjects:
            self.committed.append((subject, 1 + sum(said == subject for said, _ in self.committed)))

    @rule()
    def overtake(self) -> None:
        """What took its place in the outbox first is committed last, and a relay looks in between."""
        first, second = SUBJECTS
        self.wait(self._overtake(first, second))
        self._count([second, first])

    async def _overtake(self, first: str, second: str) -> None:
        async with self.world.database.transaction(WORKSPACE) as slow:
            await self._emit(slow, [first])
            async with self.world.database.transaction(WORKSPACE) as quick:
                await self._emit(quick, [second])
            await self._relay(self._confirm_all)

    def _confirm_all(self, events: Sequence[Event]) -> set[UUID]:
        for event in events:
            self.wire.put(event)
        return {event.id for event in events}

    async def _relay(self, publish: Publish) -> tuple[int, int]:
        async def published(events: Sequence[Event]) -> set[UUID]:
            await asyncio.sleep(0)
            return publish(events)

        connection = await self.world.database.connect("platform")
        try:
            return await Relay(self.world.database, SPEAKER, published, 1.0).relay(connection)
        finally:
            await connection.close()

    @rule(sent=st.integers(0, 8), confirmed=st.integers(0, 8), dies=st.booleans())
    def relay(self, sent: int, confirmed: int, dies: bool) -> None:
        """Of a batch some are sent, of those some are confirmed, and the relay may die before it marks them."""

        def publish(events: Sequence[Event]) -> set[UUID]:
            for event in events[:sent]:
                self.wire.put(event)
            if dies:
                raise DeathError
            return {event.id for event in events[: min(sent, confirmed)]}

        with suppress(DeathError):
            self.wait(self._relay(publish))

    @rule()
    def race(self) -> None:
        """Two relays at once send nothing twice."""
        sent: list[UUID] = []

        def publish(events: Sequence[Event]) -> set[UUID]:
            sent.extend(event.id for event in events)
            return self._confirm_all(events)

        self.wait(self._race(publish))
        assert len(sent) == len(set(sent))

    async def _race(self, publish: Publish) -> None:
        await asyncio.gather(self._relay(publish), self._relay(publish))

    @precondition(lambda self: any(self.wire.sent.values()))
    @rule(data=st.data(), acknowledged=st.booleans(), twice=st.booleans())
    def deliver(self, data: st.DataObject, acknowledged: bool, twice: bool) -> None:
        """Some of what is on the wire, in any order; without an acknowledgement it comes again."""
        schema = data.draw(st.sampled_from([schema for schema in LISTENERS if self.wire.sent[schema]]))
        mixed = data.draw(st.permutations(self.wire.sent[schema]))
        number = data.draw(st.integers(1, len(mixed)))
        for _ in range(1 + twice):
            self.wait(self._deliver(schema, mixed[:number]))
        left = [] if acknowledged else [(event, True) for event, _ in mixed[:number]]
        self.wire.sent[schema] = [*mixed[number:], *left]

    async def _deliver(self, schema: str, taken: Sequence[tuple[Event, bool]]) -> None:
        consumer = self.consumers[schema]
        await consumer.suspect([event for event, again in taken if again])
        chains: dict[str, list[Event]] = {}
        for event in (event for event, again in taken if not again):
            chains.setdefault(event.subject, []).append(event)
        done = await consumer.deliver_chains(list(chains.values()))
        assert done == [len(chain) for chain in chains.values()]

    @rule()
    def wait_and_retry(self) -> None:
        self.now += A_WHILE
        self.wait(self._retry())

    async def _retry(self) -> None:
        await self.world.clock.set(self.now, 0.0)
        for consumer in self.consumers.values():
            while await consumer.retry_due():
                pass

    @invariant()
    def what_was_never_said_has_no_effect_and_nothing_has_two(self) -> None:
        for schema in LISTENERS:
            applied = self.applied(schema)
            assert len(applied) == len(set(applied))
            assert set(applied) <= set(self.committed)

    @invariant()
    def who_listens_in_order_hears_in_order(self) -> None:
        for subject in SUBJECTS:
            heard = [sequence for about, sequence in self.applied(ORDERLY) if about == subject]
            assert heard == list(range(1, len(heard) + 1))

    def applied(self, schema: str) -> list[tuple[str, int]]:
        return [(row["subject"], row["sequence"]) for row in self.wait(self.world.rig.effects(schema))]

    def teardown(self) -> None:
        """Once all is well again, everything said has reached everybody."""
        if not self.consumers:
            return
        while self.wait(self._relay(self._confirm_all)) != (0, 0):
            pass
        for schema, waiting in self.wire.sent.items():
            self.wait(self._deliver(schema, waiting))
        for _ in SUBJECTS:
            self.wait_and_retry()
        for schema in LISTENERS:
            assert sorted(self.applied(schema)) == sorted(self.committed)


@pytest.mark.tries(1, 100)
async def test_what_is_committed_is_applied_once_and_in_order_whatever_happens(world: World, seed: int) -> None:
    await run_machine(Events, world, seed)
