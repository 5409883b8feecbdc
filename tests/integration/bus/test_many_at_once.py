"""Events of many subjects in one transaction: fewer commits, and each subject as well off as alone."""

from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import pytest

from dataaggregator.bus import EmbeddedBus, Handler, Said, emit_all
from dataaggregator.bus.consumer import CALLS_OF_A_DELIVERY, FOLDED_AT_ONCE, Consumer
from dataaggregator.bus.relay import EVENT_COLUMNS
from dataaggregator.bus.verdict import MOST_TRIES
from dataaggregator.contracts.connector import ConnectorTested
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, Database
from dataaggregator.errors import Invalid
from dataaggregator.settings import Settings
from tests.integration.bus.rig import (
    CONNECTOR_MESSAGES,
    LISTENER,
    ORDERLY,
    SPEAKER,
    WORKSPACE,
    DeathError,
    Rig,
    make_schemas,
)
from tests.sql import execute


@pytest.fixture
async def rig(database: Database, database_url: str, settings: Settings) -> Rig:
    """Nothing is at work in it: the tests deliver by hand."""
    await make_schemas(database_url)
    return Rig(database, EmbeddedBus(database, settings))


async def test_events_of_many_subjects_share_a_transaction(rig: Rig) -> None:
    chains = await _chains(rig, [f"subject-{n}" for n in range(30)], times=2)
    assert await _consumer(rig).deliver_chains(chains) == [2] * 30
    assert await rig.value(f"SELECT count(DISTINCT xmin::text) FROM {LISTENER}.inbox") == 1
    assert await _applied(rig, LISTENER) == {f"subject-{n}": [1, 2] for n in range(30)}


async def test_no_transaction_holds_more_than_so_many(rig: Rig) -> None:
    chains = await _chains(rig, [f"subject-{n}" for n in range(FOLDED_AT_ONCE + 1)])
    await _consumer(rig).deliver_chains(chains)
    assert await rig.value(f"SELECT count(DISTINCT xmin::text) FROM {LISTENER}.inbox") == 2


async def test_one_that_cannot_be_applied_takes_none_of_its_neighbours_along(rig: Rig) -> None:
    async def refuse(event: Event, _: Connection) -> None:
        if event.subject == "b":
            raise Invalid("conflict", "not this one")

    rig.hooks[LISTENER] = refuse
    chains = await _chains(rig, ["a", "b", "c"])
    assert await _consumer(rig).deliver_chains(chains) == [1, 1, 1]
    assert await _applied(rig, LISTENER) == {"a": [1], "c": [1]}
    assert [row["subject"] for row in await rig.rows(f"SELECT subject FROM {LISTENER}.parked")] == ["b"]


async def test_workspaces_never_share_a_transaction(rig: Rig) -> None:
    other = uuid4()
    chains = [*await _chains(rig, ["a", "b"]), *await _chains(rig, ["c", "d"], workspace=other)]
    await _consumer(rig).deliver_chains(chains)
    rows = await rig.rows(f"SELECT workspace_id, xmin::text AS at FROM {LISTENER}.effects")
    assert len({row["at"] for row in rows}) == 2
    assert len({(row["at"], row["workspace_id"]) for row in rows}) == 2


async def test_what_comes_twice_at_once_is_applied_once(rig: Rig) -> None:
    (first,), (second,) = await _chains(rig, ["a", "b"])
    assert await _consumer(rig).deliver_chains([[first, first], [second]]) == [2, 1]
    assert await _applied(rig, LISTENER) == {"a": [1], "b": [1]}


async def test_what_was_applied_before_is_not_applied_again_with_others(rig: Rig) -> None:
    chains = await _chains(rig, ["a", "b"], times=2)
    for schema in (LISTENER, ORDERLY):
        consumer = _consumer(rig, schema)
        await consumer.deliver(chains[0][0])
        assert await consumer.deliver_chains(chains) == [2, 2]
        assert await _applied(rig, schema) == {"a": [1, 2], "b": [1, 2]}


async def test_a_gap_waits_alone(rig: Rig) -> None:
    a, b = await _chains(rig, ["a", "b"], times=3)
    consumer = _consumer(rig, ORDERLY)
    assert await consumer.deliver_chains([[a[0], a[2]], b]) == [2, 3]
    assert await _applied(rig, ORDERLY) == {"a": [1], "b": [1, 2, 3]}
    waiting = await rig.rows(f"SELECT subject, sequence, code FROM {ORDERLY}.retries")
    assert [tuple(row) for row in waiting] == [("a", 3, "sequence-gap")]
    await consumer.deliver_chains([[a[1]]])
    assert await consumer.retry_due() == 1
    assert await _applied(rig, ORDERLY) == {"a": [1, 2, 3], "b": [1, 2, 3]}


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_handler_of_several_gets_them_turn_by_turn(rig: Rig, ordered: bool) -> None:
    got: list[list[tuple[str, int]]] = []

    async def one(event: Event, tx: Connection) -> None:
        await several([event], tx)

    async def several(events: Sequence[Event], _: Connection) -> None:
        got.append([(event.subject, event.sequence) for event in events])

    handlers = [Handler(LISTENER, m, one, ordered, several) for m in CONNECTOR_MESSAGES]
    chains = await _chains(rig, ["a", "b"], times=2)
    await Consumer(rig.database, LISTENER, handlers).deliver_chains(chains)
    assert got == [[("a", 1), ("b", 1), ("a", 2), ("b", 2)]]


async def test_many_events_said_at_once_are_counted_by_subject_in_their_order(rig: Rig) -> None:
    await rig.say("a")
    message = ConnectorTested(connector_id=uuid4(), ok=True)
    said = [Said(message, subject, WORKSPACE) for subject in ("b", "a", "b", "a", "c")]
    async with rig.database.transaction(WORKSPACE) as tx:
        ids = await emit_all(tx, SPEAKER, said, source=SPEAKER)
    rows = await rig.rows(f"SELECT id, subject, sequence FROM {SPEAKER}.outbox ORDER BY position")
    assert [row["id"] for row in rows[1:]] == ids
    assert [(row["subject"], row["sequence"]) for row in rows] == [
        ("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("c", 1),
    ]  # fmt: skip


async def test_in_whatever_company_a_handler_is_called_ten_times_at_most(rig: Rig) -> None:
    calls = _refuse(rig, lambda event: event.subject == "poison")
    poison, other = await _chains(rig, ["poison", "other"], times=2)
    consumer = _consumer(rig)
    assert await consumer.deliver_chains([poison, other]) == [2, 2]
    assert len(calls) == CALLS_OF_A_DELIVERY + 1, "the second of them was called for only when it was alone"
    await _retry_all(rig, consumer)
    assert {event.id: calls.count(event.id) for event in poison} == {poison[0].id: MOST_TRIES, poison[1].id: 8}
    assert await _applied(rig, LISTENER) == {"other": [1, 2]}
    assert [row["tries"] for row in await rig.rows(f"SELECT tries FROM {LISTENER}.parked")] == [MOST_TRIES] * 2


async def test_what_came_early_goes_together_once_its_gap_has_closed(rig: Rig) -> None:
    chains = await _chains(rig, ["a", "b", "c"], times=2)
    consumer = _consumer(rig, ORDERLY)
    await consumer.deliver_chains([[second] for _, second in chains])
    await consumer.deliver_chains([[first] for first, _ in chains])
    assert await consumer.retry_due() == 3
    assert await rig.value(f"SELECT count(DISTINCT xmin::text) FROM {ORDERLY}.inbox WHERE sequence = 2") == 1
    assert await _applied(rig, ORDERLY) == {"a": [1, 2], "b": [1, 2], "c": [1, 2]}


async def test_what_waited_for_its_gap_has_all_its_tries(rig: Rig) -> None:
    calls = _refuse(rig, lambda event: event.sequence == 3, ORDERLY)
    (a,) = await _chains(rig, ["a"], times=3)
    consumer = _consumer(rig, ORDERLY)
    await consumer.deliver_chains([[a[0]], [a[2]]])
    await rig.execute(f"UPDATE {ORDERLY}.retries SET tries = {MOST_TRIES + 5}")
    await consumer.deliver_chains([[a[1]]])
    await _retry_all(rig, consumer)
    assert calls == [a[2].id] * MOST_TRIES


async def test_a_process_that_ends_after_calls_in_vain_leaves_no_more_than_the_rest_of_the_tries(rig: Rig) -> None:
    calls = _refuse(rig, lambda event: event.subject == "a" and event.sequence == 3, ORDERLY)
    chains = await _chains(rig, ["a", "b"], times=3)
    consumer = _consumer(rig, ORDERLY)
    await consumer.deliver_chains([chain[1:] for chain in chains])
    await consumer.deliver_chains([chain[:1] for chain in chains])
    poison, refuse = chains[0][2].id, rig.hooks[ORDERLY]

    async def end(event: Event, tx: Connection) -> None:
        if event.id == poison and len(calls) == CALLS_OF_A_DELIVERY - 1:
            rig.hooks[ORDERLY] = refuse
            calls.append(event.id)
            raise DeathError
        await refuse(event, tx)

    rig.hooks[ORDERLY] = end
    with pytest.raises(BaseExceptionGroup):
        await consumer.retry_due()
    await _retry_all(rig, consumer)
    assert calls == [poison] * MOST_TRIES
    assert await _applied(rig, ORDERLY) == {"a": [1, 2], "b": [1, 2, 3]}


async def test_what_has_to_wait_after_it_was_called_in_vain_has_the_rest_of_its_tries(rig: Rig) -> None:
    calls = _refuse(rig, lambda event: event.subject == "a" and event.sequence == 2, ORDERLY)
    refuse = rig.hooks[ORDERLY]
    first_calls = 0

    async def refuse_both(event: Event, tx: Connection) -> None:
        nonlocal first_calls
        if event.subject == "a" and event.sequence == 1:
            first_calls += 1
            if first_calls == CALLS_OF_A_DELIVERY:  # when it is alone
                raise ZeroDivisionError("not now")
        await refuse(event, tx)

    rig.hooks[ORDERLY] = refuse_both
    chains = await _chains(rig, ["a", "b"], times=2)
    consumer = _consumer(rig, ORDERLY)
    assert await consumer.deliver_chains(chains) == [2, 2]
    assert await rig.value(f"SELECT count(*) FROM {ORDERLY}.retries WHERE code = 'sequence-gap'") == 1
    await _retry_all(rig, consumer)
    assert calls == [chains[0][1].id] * MOST_TRIES
    assert await _applied(rig, ORDERLY) == {"a": [1], "b": [1, 2]}


async def test_what_a_copy_kept_from_going_together_was_not_called_for(rig: Rig) -> None:
    (a,) = await _chains(rig, ["a"], times=4)
    consumer = _consumer(rig, ORDERLY)
    await consumer.deliver_chains([[a[1]], [a[0]]])
    await consumer.deliver_chains([[a[1], a[3]]])
    waiting = await rig.rows(f"SELECT sequence, tries, unjudged FROM {ORDERLY}.retries ORDER BY sequence")
    assert [tuple(row) for row in waiting] == [(2, 1, 0), (4, 1, 0)]


async def test_a_copy_of_what_waits_for_its_gap_changes_nothing(rig: Rig) -> None:
    ((_, second),) = await _chains(rig, ["a"], times=2)
    consumer = _consumer(rig, ORDERLY)
    await consumer.deliver(second)
    await rig.execute(f"UPDATE {ORDERLY}.retries SET tries = 7, unjudged = 2")
    before = await rig.rows(f"SELECT * FROM {ORDERLY}.retries")
    await consumer.deliver(second)
    assert await rig.rows(f"SELECT * FROM {ORDERLY}.retries") == before


async def test_what_came_back_from_a_delivery_without_an_end_counts_all_its_calls(rig: Rig) -> None:
    calls = _refuse(rig, lambda _: True)
    ((event,),) = await _chains(rig, ["a"])
    consumer = _consumer(rig)
    await consumer.suspect([event])
    await _retry_all(rig, consumer)
    assert len(calls) == MOST_TRIES - CALLS_OF_A_DELIVERY


async def test_what_may_have_ended_a_process_is_claimed_alone(rig: Rig, database_url: str) -> None:
    chains = await _chains(rig, ["a", "b", "c"])
    consumer = _consumer(rig)
    await consumer.suspect(chains[0])
    # As the server does now and then by itself: a table of one row, to the planner.
    await execute(database_url, f"ANALYZE {LISTENER}.retries")
    await consumer.suspect([event for (event,) in chains])
    assert [await consumer.retry_due() for _ in range(4)] == [1, 1, 1, 0]


async def test_a_last_try_without_an_end_is_the_last(rig: Rig) -> None:
    calls = _refuse(rig, lambda _: True)
    ((event,),) = await _chains(rig, ["a"])
    consumer = _consumer(rig)
    await consumer.deliver_chains([[event]])
    await rig.execute(f"UPDATE {LISTENER}.retries SET tries = {MOST_TRIES}, unjudged = 1")
    await _retry_all(rig, consumer)
    assert calls == [event.id]
    assert await rig.value(f"SELECT (code, tries) = ('event-poisonous', {MOST_TRIES}) FROM {LISTENER}.parked")


def _refuse(rig: Rig, refused: Callable[[Event], bool], schema: str = LISTENER) -> list[UUID]:
    """What a handler does not like; returns for what it was called in vain, as that goes on."""
    calls: list[UUID] = []

    async def refuse(event: Event, _: Connection) -> None:
        if refused(event):
            calls.append(event.id)
            raise ZeroDivisionError("not this one")

    rig.hooks[schema] = refuse
    return calls


async def _retry_all(rig: Rig, consumer: Consumer) -> None:
    """Until nothing waits any more, without its pauses."""
    while await rig.value(f"SELECT count(*) FROM {consumer.schema}.retries"):
        await rig.execute(f"UPDATE {consumer.schema}.retries SET due_at = now()")
        await consumer.retry_due()


def _consumer(rig: Rig, schema: str = LISTENER) -> Consumer:
    effect = rig._effect(schema)  # what the rig's own subscribers do
    return Consumer(rig.database, schema, [Handler(schema, m, effect, schema == ORDERLY) for m in CONNECTOR_MESSAGES])


async def _chains(
    rig: Rig, subjects: Sequence[str], *, times: int = 1, workspace: UUID = WORKSPACE
) -> list[list[Event]]:
    """Said and read from the outbox; no loop is at work."""
    chains = []
    for subject in subjects:
        ids = await rig.say(subject, times=times, workspace=workspace)
        rows = await rig.rows(f"SELECT {EVENT_COLUMNS} FROM {SPEAKER}.outbox WHERE id = ANY($1) ORDER BY sequence", ids)
        chains.append([Event.model_validate(dict(row)) for row in rows])
        assert all(event.type == ConnectorTested.event_type for event in chains[-1])
    return chains


async def _applied(rig: Rig, schema: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in await rig.effects(schema):
        found.setdefault(row["subject"], []).append(row["sequence"])
    return found
