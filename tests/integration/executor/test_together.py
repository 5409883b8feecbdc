"""What runs of a workspace do together: ends told in one transaction, claims and connectors asked for at once."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence, Set
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.clock import SystemClock
from dataaggregator.contracts.run import RunQueued
from dataaggregator.dataplane.job import ConnectorUse, KnownCursor
from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.ids import new_id
from services.executor.commands import AttemptEnd, Attempts, Ended, run_error
from services.executor.domain import End, Status
from services.executor.recorder import Recorder
from services.executor.store.claims import Claimed
from services.executor.store.logs import NewLine
from services.executor.store.runs import Run
from services.executor.workplace import Opened, SharedCall
from tests.integration.executor.conftest import OWNER, Queue
from tests.integration.executor.place import Place
from tests.integration.executor.test_leases import an_outcome
from tests.integration.executor.test_worker import copying

RunNow = Callable[[UUID], Awaitable[Run]]
FAILED = AttemptEnd(End.FAILED, run_error("connector-config-invalid", "no such thing", retryable=False))
REFUSED = AttemptEnd(End.FAILED, run_error("internal-error", "jsonb takes no \x00", retryable=False))


@pytest.fixture
async def held(queue: Queue, attempts: Attempts) -> list[Run]:
    """Four runs that were claimed."""
    for _ in range(4):
        await queue()
    return [begun.run for begun in (await attempts.look(OWNER, 4, ())).begun]


async def test_a_claim_is_told_of_before_it_is_committed_and_undone_if_that_fails(
    queue: Queue, attempts: Attempts, run_now: RunNow
) -> None:
    queued = await queue()
    told: list[Run] = []

    def refuse(runs: Sequence[Run]) -> None:
        told.extend(runs)
        raise Transient("service-unavailable", "not now")

    with pytest.raises(Transient):
        await attempts.look(OWNER, 1, (), refuse)
    assert [run.run_id for run in told] == [queued.run_id]
    assert (await run_now(queued.run_id)).status is Status.QUEUED
    assert (await attempts.look(OWNER, 1, (), told.extend)).begun[0].run == told[1]


async def test_a_run_is_claimed_with_what_its_pipeline_left(
    queue: Queue, attempts: Attempts, database: Database
) -> None:
    pipeline, other = new_id(), new_id()
    for source, value in (("b", "2"), ("a", "1")):
        run = await _claimed(await queue(pipeline_id=pipeline), attempts)
        cursor = {"field": "id", "type": "bigint", "value": value}
        known = KnownCursor(destination="warehouse/public.a", source=source, cursor=cursor)
        outcome = an_outcome(run.run).model_copy(update={"cursors": (known,)})
        assert await attempts.record(run.run, AttemptEnd(End.SUCCEEDED, outcome=outcome)) is not None
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.attempts SET ledger = NULL WHERE run_id <> $1", run.run.run_id)
    following = await _claimed(await queue(pipeline_id=pipeline), attempts)
    assert [(one.source, one.cursor and one.cursor["value"]) for one in following.cursors] == [("a", "1"), ("b", "2")]
    assert following.last_ledger is not None
    assert following.last_ledger["run_id"] == str(run.run.run_id)
    stranger = await _claimed(await queue(pipeline_id=other), attempts)
    assert (stranger.cursors, stranger.last_ledger) == ([], None)


async def _claimed(queued: RunQueued, attempts: Attempts) -> Claimed:
    (claimed,) = (await attempts.look(OWNER, 1, ())).begun
    assert claimed.run.run_id == queued.run_id
    return claimed


async def test_connectors_are_asked_for_at_once_and_once_for_all(held: list[Run]) -> None:
    asked, begun = [], asyncio.Event()

    async def resolve(_: UUID, ids: Set[str]) -> Opened:
        asked.append(ids)
        begun.set()
        return {UUID(id_): ConnectorUse(type="files", config={}) for id_ in ids}

    call = SharedCall(resolve, held[0].workspace_id, held)
    await asyncio.wait_for(begun.wait(), 10)
    found = [await call.connectors_of(run) for run in held]
    assert len(asked) == 1
    assert [len(one) for one in found] == [2] * 4


async def test_an_answer_that_no_attempt_comes_for_is_nobodys_error(held: list[Run]) -> None:
    begun = asyncio.Event()
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))

    async def resolve(_: UUID, __: Set[str]) -> Opened:
        begun.set()
        raise Transient("service-unavailable", "connectors is away")

    call = SharedCall(resolve, held[0].workspace_id, held)
    await asyncio.wait_for(begun.wait(), 10)
    del call
    gc.collect()
    assert not unhandled


async def test_ends_that_come_while_one_is_told_are_told_together(
    held: list[Run], attempts: Attempts, run_now: RunNow
) -> None:
    recorder = Recorder(attempts)
    verdicts = await asyncio.gather(*(recorder.record(Ended(run, FAILED)) for run in held))
    assert [verdict is not None and verdict.status for verdict in verdicts] == [Status.FAILED] * 4
    moments = [(await run_now(run.run_id)).finished_at for run in held]
    assert moments[0] != moments[1], "a lone end does not wait"
    assert len(set(moments[1:])) == 1, "the others share a transaction, whose moment is one"


async def test_an_end_that_nobody_waits_for_alone_gathers_those_that_come_soon(
    held: list[Run], attempts: Attempts, run_now: RunNow
) -> None:
    recorder = Recorder(attempts)
    await asyncio.gather(*(recorder.record(Ended(run, FAILED), at_once=False) for run in held))
    assert len({(await run_now(run.run_id)).finished_at for run in held}) == 1


async def test_ends_told_together_have_each_its_own_lines(
    held: list[Run], attempts: Attempts, database: Database
) -> None:
    ends = []
    for run in held[:3]:
        lines = [NewLine(1, SystemClock().now(), "info", f"{run.run_id}, {place}", {}) for place in range(2)]
        ends.append(Ended(run, FAILED, lines))
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET lease_epoch = lease_epoch + 1000 WHERE run_id = $1", held[2].run_id)
    await attempts.record_all(ends)
    async with database.platform() as tx:
        rows = await tx.fetch("SELECT run_id, message FROM executor.logs ORDER BY line")
    assert [(row["run_id"], row["message"]) for row in rows] == [
        (run.run_id, f"{run.run_id}, {place}") for run in held[:2] for place in range(2)
    ]


async def test_an_end_that_cannot_be_stored_leaves_its_neighbours_theirs(
    held: list[Run], attempts: Attempts, run_now: RunNow
) -> None:
    recorder = Recorder(attempts)
    ends = [FAILED, FAILED, REFUSED, FAILED]
    told = await asyncio.gather(
        *(recorder.record(Ended(run, end)) for run, end in zip(held, ends, strict=True)), return_exceptions=True
    )
    assert [isinstance(one, Exception) for one in told] == [False, False, True, False]
    statuses = [(await run_now(run.run_id)).status for run in held]
    assert statuses == [Status.FAILED, Status.FAILED, Status.RUNNING, Status.FAILED]


async def test_an_end_under_a_lost_lease_is_not_written_with_the_others(
    held: list[Run], attempts: Attempts, database: Database, run_now: RunNow
) -> None:
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET lease_epoch = lease_epoch + 1000 WHERE run_id = $1", held[2].run_id)
    verdicts = await attempts.record_all([Ended(run, FAILED) for run in held])
    assert [verdict is None for verdict in verdicts] == [False, False, True, False]
    assert (await run_now(held[2].run_id)).status is Status.RUNNING


async def test_a_teller_that_is_cancelled_leaves_the_others_to_tell_themselves(
    held: list[Run], attempts: Attempts, database: Database, run_now: RunNow
) -> None:
    recorder = Recorder(attempts)
    async with database.platform() as tx:
        await tx.execute("SELECT FROM executor.runs WHERE run_id = $1 FOR UPDATE", held[0].run_id)
        telling = [asyncio.create_task(recorder.record(Ended(run, FAILED))) for run in held]
        done, _ = await asyncio.wait(telling, timeout=0.2)
        assert not done, "the first waits for the row, the others for the first"
        telling[0].cancel()
        await asyncio.wait(telling[1:], timeout=10)
    assert [task.done() and not task.cancelled() for task in telling] == [False, True, True, True]
    assert {(await run_now(run.run_id)).status for run in held[1:]} == {Status.FAILED}


async def test_short_runs_are_claimed_together_ahead_of_their_slots_and_one_bad_one_harms_none(
    workplace: Place, tmp_path: Path, empty_database_url: str
) -> None:
    file = tmp_path / "in" / "a.csv"
    file.parent.mkdir()
    file.write_text("id\n1\n")
    definition = copying(workplace, file, empty_database_url)
    async with asyncio.timeout(120):
        while True:  # until the executor has seen that runs of this kind are short
            queued = [await workplace.queue(definition=definition) for _ in range(12)]
            missing = {"connector_id": str(new_id()), "connector_name": "gone", "connector_type": "files"}
            astray = {**definition, "sources": {"a": {**missing, "stream": "a.csv"}}}
            bad = await workplace.queue(definition=astray)
            runs = [await workplace.ended(one.run_id) for one in queued]
            assert {run.status for run in runs} == {Status.SUCCEEDED}
            assert (await workplace.ended(bad.run_id)).status is Status.FAILED
            assert await workplace.error(bad.run_id) == "not-found"
            moments = [run.started_at for run in runs]
            if max(moments.count(moment) for moment in moments) > 2:
                return
