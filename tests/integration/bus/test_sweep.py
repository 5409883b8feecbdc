"""What a bus table keeps is bounded: old rows go, and what counted the events of a subject goes with its end."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest

from dataaggregator.bus import Handler, backlog, emit
from dataaggregator.bus.applying import Delivery, apply
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.envelope import MESSAGES, Event
from dataaggregator.contracts.identity import AuditEntry
from dataaggregator.contracts.run import RunCancelRequested, RunStarted, RunSucceeded
from dataaggregator.db import Connection, Database
from dataaggregator.ids import new_id

WORKSPACE = new_id()
DAY, MONTH = "25 hours", "31 days"
COUNTED = """SELECT (SELECT count(*) FROM executor.subject_sequences),
                    (SELECT count(*) FROM scheduler.subject_positions),
                    (SELECT count(*) FROM scheduler.subject_sequences)"""


def started(run: UUID, attempt: int = 1) -> RunStarted:
    now = datetime.now(UTC)
    return RunStarted(run_id=run, pipeline_id=run, attempt=attempt, executor="e", started_at=now)


async def _nothing(event: Event, tx: Connection) -> None:
    """What the handler does is not of interest."""


async def say(database: Database, run: UUID, messages: Sequence[Message]) -> None:
    """By the executor, applied by the scheduler, which has said something of the run as well."""
    wish = RunCancelRequested(run_id=run, pipeline_id=run, requested_by="a", requested_at=datetime.now(UTC))
    async with database.platform() as tx:
        await emit(tx, "scheduler", wish, subject=run, workspace=WORKSPACE, source="scheduler")
        for message in messages:
            await emit(tx, "executor", message, subject=run, workspace=WORKSPACE, source="executor")
        rows = await tx.fetch(
            """UPDATE executor.outbox SET published_at = clock_timestamp() WHERE published_at IS NULL
               RETURNING id, type, source, subject, sequence, time, workspace_id, traceparent, data"""
        )
    events = sorted((Event.model_validate(dict(row)) for row in rows), key=lambda event: event.sequence)
    async with database.platform() as tx:
        for event in events:
            handler = Handler("scheduler", MESSAGES[event.type], _nothing, ordered=True)
            assert not await apply(tx, "scheduler", [Delivery(event, handler)])


async def swept(database: Database, age: str) -> None:
    """Everything is so old, and is looked through."""
    async with database.platform() as tx:
        await tx.execute(f"UPDATE executor.outbox SET published_at = published_at - interval '{age}'")
        await tx.execute(f"UPDATE scheduler.inbox SET applied_at = applied_at - interval '{age}'")
    for schema in ("executor", "scheduler"):
        async with database.platform() as tx:
            await backlog.sweep(tx, schema)


async def counted(database: Database) -> tuple[int, ...]:
    async with database.platform() as tx:
        row = await tx.fetchrow(COUNTED)
    assert row is not None
    return tuple(row)


async def test_what_counted_the_events_of_a_run_is_forgotten_after_its_end(database: Database) -> None:
    run = new_id()
    end = RunSucceeded(run_id=run, pipeline_id=run, attempt=1, finished_at=datetime.now(UTC))
    await say(database, run, [started(run), end])
    assert await counted(database) == (1, 1, 1)
    await swept(database, "23 hours")
    assert await counted(database) == (1, 1, 1)
    await swept(database, DAY)
    assert await counted(database) == (0, 1, 1)  # what may come again is known as long as the inbox knows it
    await swept(database, MONTH)
    assert await counted(database) == (0, 0, 0)


async def test_what_has_not_ended_goes_on_where_it_was_however_long_it_was_silent(database: Database) -> None:
    run = new_id()
    await say(database, run, [started(run)])
    await swept(database, MONTH)
    assert await counted(database) == (1, 1, 1)
    await say(database, run, [started(run, 2)])
    async with database.platform() as tx:
        assert await tx.fetchval("SELECT sequence FROM executor.outbox") == 2
        assert await tx.fetchval("SELECT last_sequence FROM scheduler.subject_positions") == 2


async def test_an_entry_of_the_audit_is_a_subject_of_its_own_and_ends_with_itself(database: Database) -> None:
    entry = AuditEntry(
        entry_id=new_id(),
        service="executor",
        action="a",
        resource_type="run",
        resource_id="r",
        at=datetime.now(UTC),
    )
    async with database.platform() as tx:
        await emit(tx, "executor", entry, subject=entry.entry_id, workspace=WORKSPACE, source="executor")
        await tx.execute("UPDATE executor.outbox SET published_at = clock_timestamp()")
    assert (await counted(database))[0] == 1
    await swept(database, DAY)
    assert (await counted(database))[0] == 0


async def test_so_many_are_removed_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "SWEPT_AT_ONCE", 2)
    run = new_id()
    await say(database, run, [started(run, number) for number in range(1, 6)])
    async with database.platform() as tx:
        await tx.execute(f"UPDATE executor.outbox SET published_at = published_at - interval '{DAY}'")
    removed = []
    for _ in range(4):
        async with database.platform() as tx:
            removed.append(await backlog.sweep(tx, "executor"))
    assert removed == [2, 2, 1, 0]


def test_what_ends_a_subject() -> None:
    """One more would let events of it be taken for new ones, one less would keep rows for ever."""
    ends = {name for name, message in MESSAGES.items() if message.ends}
    runs = {f"run.{end}.v1" for end in ("succeeded", "failed", "cancelled", "timed_out", "skipped")}
    assert ends == runs | {"pipeline.deleted.v1", "connector.deleted.v1", "audit.entry.v1"}
