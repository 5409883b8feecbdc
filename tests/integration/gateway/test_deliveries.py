"""Deliveries as rows: one for each event and webhook, in their order, tried only by who holds the receiver."""

from uuid import UUID

import pytest

from dataaggregator.bus import ephemeral
from dataaggregator.contracts.connector import ConnectorCreated
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Database
from dataaggregator.definition import Author
from dataaggregator.ids import new_id
from services.gateway.webhooks import deliveries, store
from services.gateway.webhooks.domain import Attempt, Turn, WebhookDefinition

WORKSPACE = UUID(int=7)
TAKEN = Attempt(1, 204)


def event() -> Event:
    id_ = new_id()
    message = ConnectorCreated(connector_id=id_, name="a", type="files")
    return ephemeral(message, subject=str(id_), workspace=WORKSPACE, source="connectors")


@pytest.fixture
async def events(database: Database) -> list[Event]:
    """Told to one webhook, one after the other and twice."""
    definition = WebhookDefinition(name="ops", url="https://ops.example.org/", types=["connector.*"])
    told = [event() for _ in range(100)]
    async with database.transaction(WORKSPACE) as tx:
        await store.add(tx, WORKSPACE, definition, Author(None, "ada@example.org"), about_people=False)
    for _ in range(2):
        async with database.platform() as tx:
            await deliveries.fan_out(tx, told[:60])
            await deliveries.fan_out(tx, told[60:])
    return told


async def claim(database: Database) -> Turn | None:
    async with database.platform() as tx:
        return await deliveries.claim(tx)


async def test_each_event_is_due_once_and_in_order_however_often_it_is_told(
    database: Database, events: list[Event]
) -> None:
    turn = await claim(database)
    assert turn is not None
    assert await claim(database) is None
    tried: list[UUID] = []
    async with database.transaction(WORKSPACE) as tx:
        while (due := await deliveries.begin_due(tx, turn)) is not None:
            tried.append(due.event_id)
            await deliveries.delivered(tx, turn, due, TAKEN)
    assert tried == [one.id for one in events]


async def test_who_has_lost_the_receiver_to_another_tries_nothing_and_frees_nothing(
    database: Database, events: list[Event]
) -> None:
    late = await claim(database)
    async with database.platform() as tx:
        await tx.execute("UPDATE gateway.webhooks SET busy_until = now() - interval '1 second'")
    holder = await claim(database)
    assert late is not None
    assert holder is not None
    async with database.transaction(WORKSPACE) as tx:
        assert await deliveries.begin_due(tx, late) is None
        await deliveries.release(tx, late)
    assert await claim(database) is None
    async with database.transaction(WORKSPACE) as tx:
        due = await deliveries.begin_due(tx, holder)
    assert due is not None
    assert (due.event_id, due.attempts) == (events[0].id, 0)
