"""What every adapter of the bus must do; an adapter's test is this class with `make_bus`."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import asdict
from uuid import UUID, uuid4

import asyncpg
import pytest

from dataaggregator.bus import Bus, emit, ephemeral, parked, verdict
from dataaggregator.bus.backlog import backlog
from dataaggregator.contracts.connector import ConnectorCreated, ConnectorTested
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE, Event
from dataaggregator.contracts.run import RunProgressed
from dataaggregator.db import Connection, Database
from dataaggregator.errors import Conflict, Invalid, NotFound, Permanent, PlatformError, Transient
from dataaggregator.settings import Settings
from dataaggregator.telemetry import traces
from tests.integration.bus.ordering import OrderConformance
from tests.integration.bus.rig import LISTENER, ORDERLY, SCHEMAS, SPEAKER, WORKSPACE, Rig, eventually, make_schemas
from tests.integration.bus.suspicion import SuspicionConformance


class BusConformance(OrderConformance, SuspicionConformance):
    """Subclass it, say how a bus is made, and name the class `Test…`."""

    def make_bus(self, database: Database, settings: Settings) -> Bus:
        raise NotImplementedError

    async def idle(self, bus: Bus) -> bool:
        """Whether nothing is between outbox and inbox; an adapter that keeps events elsewhere says so."""
        return True

    @pytest.fixture
    async def rig(
        self, database: Database, database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Rig]:
        monkeypatch.setattr(verdict, "FIRST_PAUSE_SECONDS", 0.002)
        await make_schemas(database_url)
        bus = self.make_bus(database, settings)
        rig = Rig(database, bus, idle=lambda: self.idle(bus))
        rig.subscribe()
        await bus.open()
        yield rig
        await rig.stop()
        await bus.close()

    # Delivery

    async def test_a_committed_event_reaches_every_subscriber_once(self, rig: Rig) -> None:
        rig.start()
        (event_id,) = await rig.say()
        await rig.settled()
        for schema in (LISTENER, ORDERLY):
            (effect,) = await rig.effects(schema)
            assert (effect["event_id"], effect["sequence"], effect["workspace_id"]) == (event_id, 1, WORKSPACE)

    async def test_an_event_of_a_rolled_back_transaction_never_was(self, rig: Rig) -> None:
        rig.start()

        async def fail() -> None:
            async with rig.database.transaction(WORKSPACE) as tx:
                message = ConnectorTested(connector_id=uuid4(), ok=True)
                await emit(tx, SPEAKER, message, subject="one", workspace=WORKSPACE, source=SPEAKER)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        await rig.say()
        await rig.settled()
        assert [effect["sequence"] for effect in await rig.effects(LISTENER)] == [1]

    async def test_sequences_have_no_holes_however_many_speak_at_once(self, rig: Rig) -> None:
        await asyncio.gather(*(rig.say(f"s{n % 3}") for n in range(60)))
        found = await rig.rows(f"SELECT subject, sequence FROM {SPEAKER}.outbox ORDER BY subject, position")
        for subject in ("s0", "s1", "s2"):
            assert [row["sequence"] for row in found if row["subject"] == subject] == list(range(1, 21))

    async def test_an_event_without_a_workspace_reaches_the_platform(self, rig: Rig) -> None:
        rig.start()
        await rig.say(workspace=PLATFORM_WORKSPACE)
        await rig.settled()
        assert [effect["workspace_id"] for effect in await rig.effects(LISTENER)] == [PLATFORM_WORKSPACE]

    async def test_an_event_said_in_another_process_is_delivered_long_before_the_poll(
        self, rig: Rig, database_url: str
    ) -> None:
        rig.start()
        await rig.say()
        await rig.settled()
        connection = await asyncpg.connect(database_url)
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=str)
        try:
            async with connection.transaction():
                await connection.execute(
                    f"""INSERT INTO {SPEAKER}.outbox (id, workspace_id, type, source, subject, sequence, time, data)
                        SELECT gen_random_uuid(), workspace_id, type, source, subject, 2, clock_timestamp(), data
                        FROM {SPEAKER}.outbox"""
                )
                await connection.execute(f"NOTIFY dataaggregator_outbox_{SPEAKER}")
        finally:
            await connection.close()
        await rig.settled()
        assert [effect["sequence"] for effect in await rig.effects(LISTENER)] == [1, 2]

    async def test_an_event_that_nobody_announced_is_found_by_polling(self, rig: Rig) -> None:
        rig.start()
        await rig.say()
        await rig.settled()
        await rig.execute(f"UPDATE {SPEAKER}.outbox SET published_at = NULL, id = gen_random_uuid(), sequence = 2")
        await rig.settled()
        assert [effect["sequence"] for effect in await rig.effects(LISTENER)] == [1, 2]

    async def test_the_trace_goes_on_in_the_handler(self, rig: Rig) -> None:
        seen: list[str | None] = []

        async def look(event: Event, tx: Connection) -> None:
            seen.append(traces.trace_id())

        rig.hooks[LISTENER] = look
        rig.start()
        with traces.continue_from(None, "test") as trace:
            await rig.say()
        await rig.settled()
        assert seen == [trace.trace_id]

    # Exactly once

    async def test_an_event_delivered_again_is_applied_once(self, rig: Rig) -> None:
        rig.start()
        await rig.say(times=20)
        await rig.settled()
        for _ in range(3):
            await rig.execute(f"UPDATE {SPEAKER}.outbox SET published_at = NULL")
            await rig.settled()
        for schema in (LISTENER, ORDERLY):
            assert [effect["sequence"] for effect in await rig.effects(schema)] == list(range(1, 21))

    async def test_a_copy_of_an_event_that_waits_for_another_try_changes_nothing(self, rig: Rig) -> None:
        await self._fail(rig, Transient("database-busy", "not now", retry_after=3600), times=1, settled=False)
        await eventually(lambda: rig.value(f"SELECT count(*) = 1 FROM {LISTENER}.retries"))
        await rig.execute(f"UPDATE {SPEAKER}.outbox SET published_at = NULL")
        await rig.say("another")
        await eventually(lambda: rig.value(f"SELECT count(*) = 1 FROM {LISTENER}.effects"))
        await eventually(lambda: rig.value(f"SELECT count(*) = 0 FROM {SPEAKER}.outbox WHERE published_at IS NULL"))
        assert [row["subject"] for row in await rig.effects(LISTENER)] == ["another"]
        assert await rig.value(f"SELECT count(*) FROM {LISTENER}.retries") == 1

    async def test_stopped_anywhere_every_event_is_applied_once(self, rig: Rig, dice: random.Random) -> None:
        for number in range(15):
            rig.start()
            await rig.say(f"s{number % 4}", times=20)
            await asyncio.wait(rig.tasks, timeout=dice.uniform(0, 0.06))
            await rig.stop()
        rig.start()
        await self._release_claims(rig)
        await rig.settled()
        for schema in (LISTENER, ORDERLY):
            effects = await rig.effects(schema)
            assert len(effects) == len({effect["event_id"] for effect in effects}) == 300

    async def test_what_a_handler_says_goes_out_with_its_effects_or_not_at_all(self, rig: Rig) -> None:
        failures = 2

        async def answer(event: Event, tx: Connection) -> None:
            nonlocal failures
            if event.type != ConnectorTested.event_type:
                return
            message = ConnectorCreated(connector_id=uuid4(), name="answer", type="files")
            await emit(tx, LISTENER, message, subject="answer", workspace=event.workspace_id, source=LISTENER)
            if failures:
                failures -= 1
                raise Transient("database-busy", "not now")

        rig.hooks[LISTENER] = answer
        rig.start()
        await rig.say()
        await rig.settled()
        effects = await rig.effects(LISTENER)
        assert [effect["type"] for effect in effects] == [ConnectorTested.event_type, ConnectorCreated.event_type]
        assert [effect["sequence"] for effect in effects] == [1, 1]

    # Errors

    @pytest.mark.parametrize("error", [Invalid("not-found", "no"), Permanent("source-refused", "no")])
    async def test_what_cannot_succeed_is_parked_at_once(self, rig: Rig, error: PlatformError) -> None:
        await self._fail(rig, error, times=1)
        (set_aside,) = await rig.rows(f"SELECT code, reason, tries FROM {LISTENER}.parked")
        assert tuple(set_aside) == (error.code, "no", 1)
        assert await rig.effects(LISTENER) == []
        assert len(await rig.effects(ORDERLY)) == 1

    async def test_a_conflict_is_nothing_to_do(self, rig: Rig) -> None:
        await self._fail(rig, Conflict("conflict", "already there"), times=1)
        assert await rig.effects(LISTENER) == []
        assert await rig.value(f"SELECT count(*) FROM {LISTENER}.parked") == 0
        assert await rig.value(f"SELECT count(*) FROM {LISTENER}.inbox WHERE source = '{SPEAKER}'") == 1

    @pytest.mark.parametrize("error", [Transient("database-busy", "not now"), ZeroDivisionError("a bug")])
    async def test_what_may_pass_is_tried_again(self, rig: Rig, error: Exception) -> None:
        tries = await self._fail(rig, error, times=3)
        assert tries == 4
        assert len(await rig.effects(LISTENER)) == 1
        assert await rig.value(f"SELECT count(*) FROM {LISTENER}.parked") == 0

    @pytest.mark.parametrize("error", [Transient("database-busy", "not now"), ZeroDivisionError("a bug")])
    async def test_what_does_not_pass_is_parked_after_the_last_try(self, rig: Rig, error: Exception) -> None:
        tries = await self._fail(rig, error, times=1_000)
        assert tries == verdict.MOST_TRIES
        assert await rig.value(f"SELECT tries FROM {LISTENER}.parked") == verdict.MOST_TRIES

    async def test_an_event_that_cannot_be_read_is_parked(self, rig: Rig) -> None:
        async def read(event: Event, tx: Connection) -> None:
            event.read(ConnectorTested)

        rig.hooks[LISTENER] = read
        rig.start()
        await rig.say()
        await rig.settled()
        await rig.execute(
            f"""INSERT INTO {SPEAKER}.outbox (id, workspace_id, type, source, subject, sequence, time, data)
                SELECT gen_random_uuid(), workspace_id, type, source, subject, 2, clock_timestamp(), '{{"ok": 7}}'
                FROM {SPEAKER}.outbox"""
        )
        await rig.settled()
        assert await rig.value(f"SELECT code FROM {LISTENER}.parked") == "event-unreadable"

    async def test_a_poison_message_stops_nobody(self, rig: Rig) -> None:
        async def refuse(event: Event, tx: Connection) -> None:
            if event.subject == "poison":
                raise ZeroDivisionError("poison")

        rig.hooks[LISTENER] = rig.hooks[ORDERLY] = refuse
        rig.start()
        (poison,) = await rig.say("poison")
        innocent = [event_id for n in range(50) for event_id in await rig.say(f"s{n}")]
        await rig.settled()
        for schema in (LISTENER, ORDERLY):
            assert [row["event_id"] for row in await rig.rows(f"SELECT event_id FROM {schema}.parked")] == [poison]
            assert {effect["event_id"] for effect in await rig.effects(schema)} == set(innocent)

    async def test_a_parked_event_is_listed_shown_and_replayed(self, rig: Rig) -> None:
        await self._fail(rig, Invalid("not-found", "no"), times=1)
        async with rig.database.platform() as tx:
            (listed,) = await parked.list_parked(tx, LISTENER)
            shown = await parked.show(tx, LISTENER, listed.event_id)
            assert (await backlog(tx, LISTENER)).parked == 1
        assert asdict(listed) == {name: value for name, value in asdict(shown).items() if name != "event"}
        assert (shown.code, shown.subject, shown.event["type"]) == ("not-found", "one", ConnectorTested.event_type)
        async with rig.database.platform() as tx:
            await parked.replay(tx, LISTENER, listed.event_id)
        await rig.settled()
        assert [effect["event_id"] for effect in await rig.effects(LISTENER)] == [listed.event_id]
        assert await rig.value(f"SELECT count(*) FROM {LISTENER}.parked") == 0

    async def test_replaying_what_is_not_parked_is_not_found(self, rig: Rig) -> None:
        async with rig.database.platform() as tx:
            with pytest.raises(NotFound):
                await parked.replay(tx, LISTENER, uuid4())
            with pytest.raises(NotFound):
                await parked.show(tx, LISTENER, uuid4())

    # Order

    async def test_each_handler_works_in_the_workspace_of_its_event(self, rig: Rig) -> None:
        seen: dict[UUID, int] = {}

        async def count(event: Event, tx: Connection) -> None:
            seen[event.workspace_id] = await tx.fetchval(f"SELECT count(DISTINCT workspace_id) FROM {LISTENER}.effects")

        rig.hooks[LISTENER] = count
        rig.start()
        workspaces = [uuid4(), uuid4(), uuid4()]
        for number, workspace in enumerate(workspaces):
            await rig.say(f"s{number}", workspace=workspace)
        await rig.settled()
        assert seen == dict.fromkeys(workspaces, 1)

    async def test_the_tables_of_the_bus_are_isolated_by_workspace(self, rig: Rig) -> None:
        rig.start()
        other = uuid4()
        await rig.say("s1")
        await rig.say("s2", workspace=other)
        await rig.settled()
        for table in (f"{SPEAKER}.outbox", f"{SPEAKER}.subject_sequences", f"{ORDERLY}.inbox", f"{ORDERLY}.effects"):
            async with rig.database.transaction(other) as tx:
                assert [row[0] for row in await tx.fetch(f"SELECT workspace_id FROM {table}")] == [other]
        connection = await rig.database.connect("workspace")
        try:
            for schema in SCHEMAS:
                assert await connection.fetchval(f"SELECT count(*) FROM {schema}.outbox") == 0
        finally:
            await connection.close()

    # Ephemeral

    async def test_an_ephemeral_event_reaches_observers_and_handlers_without_a_trace_in_the_inbox(
        self, rig: Rig
    ) -> None:
        seen: list[Event] = []
        stop = rig.bus.observe(seen.append)
        rig.start()
        progress = RunProgressed(run_id=uuid4(), pipeline_id=uuid4(), attempt=1, rows_read=5)
        event = ephemeral(progress, subject=progress.run_id, workspace=WORKSPACE, source=SPEAKER)

        async def arrived() -> bool:
            await rig.bus.publish_ephemeral(event)  # again, because it may be lost
            return bool(seen) and bool(await rig.effects(LISTENER))

        await eventually(arrived)
        assert seen[0].read(RunProgressed) == progress
        assert await rig.value(f"SELECT count(*) FROM {LISTENER}.inbox") == 0
        stop()
        await self._handles_another(rig)
        before = len(seen)
        await self._handles_another(rig)
        assert len(seen) == before

    async def _handles_another(self, rig: Rig) -> None:
        progress = RunProgressed(run_id=uuid4(), pipeline_id=uuid4(), attempt=1)
        event = ephemeral(progress, subject=progress.run_id, workspace=WORKSPACE, source=SPEAKER)
        await rig.bus.publish_ephemeral(event)
        await eventually(
            lambda: rig.value(f"SELECT count(*) > 0 FROM {LISTENER}.effects WHERE event_id = $1", event.id)
        )

    async def test_an_ephemeral_event_that_fails_is_lost_and_harms_nobody(self, rig: Rig) -> None:
        async def refuse(event: Event, tx: Connection) -> None:
            raise ZeroDivisionError("no")

        rig.hooks[LISTENER] = refuse
        rig.start()
        progress = RunProgressed(run_id=uuid4(), pipeline_id=uuid4(), attempt=1)
        await rig.bus.publish_ephemeral(ephemeral(progress, subject="x", workspace=WORKSPACE, source=SPEAKER))
        await rig.say()
        await rig.settled()
        assert await rig.effects(LISTENER) == []
        assert len(await rig.effects(ORDERLY)) == 1

    # Faults

    async def test_the_relay_comes_back_after_its_connection_was_cut(self, rig: Rig, database_url: str) -> None:
        rig.start()
        await rig.say()
        await rig.settled()
        owner = await asyncpg.connect(database_url)
        try:
            await owner.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()"""
            )
        finally:
            await owner.close()
        await eventually(lambda: _speaks(rig))
        await rig.settled()
        assert len(await rig.effects(LISTENER)) == 2

    # Pieces

    async def _fail(self, rig: Rig, error: Exception, *, times: int, settled: bool = True) -> int:
        """One event, whose first deliveries to the listener fail; returns how often it was tried."""
        tries = 0

        async def fail(event: Event, tx: Connection) -> None:
            nonlocal tries
            tries += 1
            if tries <= times:
                raise error

        rig.hooks[LISTENER] = fail
        rig.start()
        await rig.say()
        if settled:
            await rig.settled()
        return tries

    async def _release_claims(self, rig: Rig) -> None:
        """A retry that was claimed by a loop that has ended is free after a lease; not to be waited for here."""
        for schema in (LISTENER, ORDERLY):
            await rig.execute(f"UPDATE {schema}.retries SET due_at = now()")


async def _speaks(rig: Rig) -> bool:
    """The first tries may meet connections of the pool that were cut as well."""
    try:
        await rig.say()
    except Transient:
        return False
    return True
