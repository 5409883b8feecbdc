"""Relays: any number may work on one outbox."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import pytest

from dataaggregator.bus import emit, loops, relay
from dataaggregator.bus.backlog import backlog
from dataaggregator.bus.emit import channel
from dataaggregator.bus.recovery import recover
from dataaggregator.bus.relay import Relay
from dataaggregator.bus.resend import resend_handler
from dataaggregator.bus.signals import Signal, outbox_topic
from dataaggregator.contracts.connector import ConnectorDeleted
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.platform import BusResendRequested
from dataaggregator.db import Database
from dataaggregator.ids import new_id
from dataaggregator.telemetry import metrics
from tests.integration.bus.rig import an_event, eventually

UNKNOWN = "connector.dreamt.v9"


async def test_an_event_that_one_relay_is_publishing_is_left_alone_by_the_others(database: Database) -> None:
    workspace, connector = new_id(), new_id()
    async with database.transaction(workspace) as tx:
        gone = ConnectorDeleted(connector_id=connector, name="c")
        await emit(tx, "connectors", gone, subject=connector, workspace=workspace, source="connectors")
    publishing, go_on = asyncio.Event(), asyncio.Event()

    async def publish(events: Sequence[Event]) -> set[UUID]:
        publishing.set()
        await go_on.wait()
        return {event.id for event in events}

    first, second = await database.connect("platform"), await database.connect("platform")
    relay = Relay(database, "connectors", publish, 1.0)
    try:
        at_work = asyncio.create_task(relay.relay(first))
        await publishing.wait()
        assert await asyncio.wait_for(relay.relay(second), 5) == (0, 0)
        go_on.set()
        assert await at_work == (1, 1)
        assert await relay.relay(second) == (0, 0)
    finally:
        await asyncio.gather(first.close(), second.close())


async def test_what_a_relay_has_published_and_not_marked_yet_is_published_again_where_it_is_asked_for(
    database: Database,
) -> None:
    """It may have gone where nobody was bound for it, though its mark comes after the request."""
    workspace, connector = new_id(), new_id()
    async with database.transaction(workspace) as tx:
        gone = ConnectorDeleted(connector_id=connector, name="c")
        await emit(tx, "connectors", gone, subject=connector, workspace=workspace, source="connectors")
    since = datetime.now(UTC) - timedelta(minutes=2)
    request = an_event(BusResendRequested(types=(ConnectorDeleted.event_type,), since=since))

    async def resend() -> None:
        async with database.platform() as tx:
            await resend_handler("connectors").handle(request, tx)

    asked: list[asyncio.Task[None]] = []

    async def publish(events: Sequence[Event]) -> set[UUID]:
        asked.append(asyncio.create_task(resend()))
        await eventually(lambda: is_done_or_waits(asked[0]))
        return {event.id for event in events}

    async def is_done_or_waits(task: asyncio.Task[None]) -> bool:
        return task.done() or await looking.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")

    connection, looking = await database.connect("platform"), await database.connect("platform")
    try:
        assert await Relay(database, "connectors", publish, 1.0).relay(connection) == (1, 1)
        await asked[0]
        assert await connection.fetchval("SELECT count(*) FROM connectors.outbox WHERE published_at IS NULL") == 1
    finally:
        await asyncio.gather(connection.close(), looking.close())


async def test_what_is_published_again_goes_behind_all_that_is_new(database: Database) -> None:
    """A queue that was deleted costs the events of a day: what happens meanwhile is not to wait for them."""
    workspace, connector = new_id(), new_id()
    gone = ConnectorDeleted(connector_id=connector, name="c")
    request = an_event(BusResendRequested(types=(ConnectorDeleted.event_type,), since=datetime.now(UTC)))
    told: list[list[int]] = []

    async def publish(events: Sequence[Event]) -> set[UUID]:
        told.append([event.sequence for event in events])
        return {event.id for event in events}

    async def say() -> None:
        async with database.transaction(workspace) as tx:
            await emit(tx, "connectors", gone, subject=connector, workspace=workspace, source="connectors")

    connection = await database.connect("platform")
    relay = Relay(database, "connectors", publish, 1.0)
    try:
        await say()
        await say()
        await relay.relay(connection)
        async with database.platform() as tx:
            await resend_handler("connectors").handle(request, tx)
            waiting = await backlog(tx, "connectors")
        assert (waiting.pending, waiting.oldest_seconds) == (2, 0.0)
        await say()
        assert [await relay.relay(connection) for _ in range(3)] == [(1, 1), (2, 2), (0, 0)]
    finally:
        await connection.close()
    assert told == [[1, 2], [3], [1, 2]]


async def test_copies_go_a_few_at_once_and_one_after_the_other_without_being_asked_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "COPIES", 2)
    workspace, connector = new_id(), new_id()
    gone = ConnectorDeleted(connector_id=connector, name="c")
    told: list[list[int]] = []

    async def publish(events: Sequence[Event]) -> set[UUID]:
        told.append([event.sequence for event in events])
        return {event.id for event in events}

    async def all_told() -> bool:
        return sum(map(len, told)) == 5

    async with database.transaction(workspace) as tx:
        for _ in range(5):
            await emit(tx, "connectors", gone, subject=connector, workspace=workspace, source="connectors")
    async with database.platform() as tx:
        await tx.execute("UPDATE connectors.outbox SET again = true")
    at_work = asyncio.create_task(Relay(database, "connectors", publish, 60.0).run())
    try:
        await eventually(all_told)
    finally:
        at_work.cancel()
        await asyncio.wait([at_work])
    assert told == [[1, 2], [3, 4], [5]]


async def test_only_what_is_confirmed_counts_as_published(database: Database) -> None:
    workspace, connector = new_id(), new_id()
    async with database.transaction(workspace) as tx:
        gone = ConnectorDeleted(connector_id=connector, name="c")
        for _ in range(3):
            await emit(tx, "connectors", gone, subject=connector, workspace=workspace, source="connectors")
    tried: list[list[int]] = []

    async def publish(events: Sequence[Event]) -> set[UUID]:
        tried.append([event.sequence for event in events])
        return {event.id for event in events if event.sequence == 2 or len(tried) > 1}

    connection = await database.connect("platform")
    try:
        relay = Relay(database, "connectors", publish, 1.0)
        assert [await relay.relay(connection) for _ in range(3)] == [(3, 1), (2, 2), (0, 0)]
    finally:
        await connection.close()
    assert tried == [[1, 2, 3], [1, 3]]


async def test_relays_elsewhere_are_woken_only_where_none_works_here(database: Database) -> None:
    heard: list[object] = []
    elsewhere = await database.connect("platform")
    try:
        await elsewhere.add_listener(channel("connectors"), lambda *_: heard.append("an event"))
        await elsewhere.add_listener("all_was_said", lambda *_: heard.append("the end"))
        here = Signal(outbox_topic("connectors"))
        await _say_with_one_unknown(database)
        async with asyncio.timeout(5):
            await here.wait(5)
        del here
        await _say_with_one_unknown(database)
        await elsewhere.execute("NOTIFY all_was_said")
        await eventually(partial(_is_in, "the end", heard))
    finally:
        await elsewhere.close()
    assert heard == ["an event", "the end"]


async def _is_in(one: object, all_: Sequence[object]) -> bool:
    return one in all_


async def test_what_only_another_version_knows_is_kept_and_in_nobodys_way(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH", 1)
    kept, gone = await _say_with_one_unknown(database)
    published: list[UUID] = []

    async def publish(events: Sequence[Event]) -> set[UUID]:
        published.extend(event.id for event in events)
        return {event.id for event in events}

    connection = await database.connect("platform")
    try:
        ours = Relay(database, "connectors", publish, 1.0)
        assert [await ours.relay(connection) for _ in range(2)] == [(1, 1), (0, 0)]
        assert published == [gone]
        monkeypatch.setattr(relay, "KNOWN", [*relay.KNOWN, UNKNOWN])
        assert await ours.relay(connection) == (1, 1)
        assert published == [gone, kept]
    finally:
        await connection.close()


async def test_what_only_another_version_knows_is_no_sign_of_death(database: Database) -> None:
    _, gone = await _say_with_one_unknown(database)
    recovered: list[UUID] = []

    async def deliver(event: Event, recoveries: int) -> bool:
        recovered.append(event.id)
        return True

    async def set_aside(event: Event, tries: int) -> None:
        raise AssertionError(event.type)

    await recover(database, "connectors", None, deliver, set_aside)
    assert recovered == [gone]


async def test_what_only_another_version_knows_is_counted_and_told_when_there_are_more(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "METRICS_SECONDS", 0.01)
    upkeep = asyncio.create_task(loops.upkeep_loop(database, "connectors"))

    async def counts(number: int) -> bool:
        return f'dataaggregator_outbox_unknown{{service="connectors"}} {number}.0' in metrics.exposition().decode()

    for number in (1, 2):
        await _say_with_one_unknown(database)
        await eventually(partial(counts, number))
    upkeep.cancel()
    told = [record.__dict__["platform_fields"] for record in caplog.records if record.msg == "events_kept"]
    assert [(each["code"], each["events"], each["types"]) for each in told] == [
        ("event-unknown", number, [UNKNOWN]) for number in (1, 2)
    ]


async def _say_with_one_unknown(database: Database) -> tuple[UUID, UUID]:
    """Two events, of which the first is as another version would have written it."""
    workspace = new_id()
    async with database.transaction(workspace) as tx:
        ids = [
            await emit(
                tx,
                "connectors",
                ConnectorDeleted(connector_id=connector, name="c"),
                subject=connector,
                workspace=workspace,
                source="connectors",
            )
            for connector in (new_id(), new_id())
        ]
        await tx.execute("UPDATE connectors.outbox SET type = $2 WHERE id = $1", ids[0], UNKNOWN)
    return ids[0], ids[1]
