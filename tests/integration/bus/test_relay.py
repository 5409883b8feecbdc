"""Relays: any number may work on one outbox."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from dataaggregator.bus import emit
from dataaggregator.bus.relay import Relay
from dataaggregator.contracts.connector import ConnectorDeleted
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Database
from dataaggregator.ids import new_id


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
