"""Sources without rows: told once, however runs overlap, and only by comparison with a run that read the very same."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.contracts.ledger import Ledger
from dataaggregator.contracts.pipeline import EmptiedSource
from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.job import RunOutcome
from dataaggregator.db import Database
from dataaggregator.ids import new_id
from services.executor.commands import AttemptEnd, Attempts, Ended
from services.executor.domain import End
from services.executor.store.claims import Claimed
from services.executor.store.runs import Run
from tests.integration.executor.conftest import OWNER, Queue
from tests.integration.executor.place import a_definition

Claim = Callable[..., Awaitable[Run]]
REGION = {"region": {"type": "string", "default": "EU"}}


def an_end(run: Run, rows: int) -> AttemptEnd:
    """As its run process tells it: without rows, where it was told that there were 9 before."""
    stage = {"stage": "a", "kind": "source", "accounting": "proven", "read": rows, "written": rows}
    outcome = RunOutcome(
        status="succeeded",
        ledger=Ledger.model_validate({"run_id": run.run_id, "balanced": True, "stages": [stage]}),
        counts=RunCounts(),
        emptied=() if rows else (EmptiedSource(source="a", stream="a.csv", rows_before=9),),
    )
    return AttemptEnd(End.SUCCEEDED, outcome=outcome)


@pytest.fixture
def told(database: Database) -> Callable[[UUID], Awaitable[list[int]]]:
    """How many rows there had been, of each time that a pipeline was said to be without."""

    async def find(pipeline: UUID) -> list[int]:
        async with database.platform() as tx:
            rows = await tx.fetch(
                """SELECT data FROM executor.outbox WHERE type = 'pipeline.emptied.v1' AND subject = $1
                ORDER BY sequence""",
                str(pipeline),
            )
        return [source["rows_before"] for row in rows for source in row["data"]["sources"]]

    return find


Told = Callable[[UUID], Awaitable[list[int]]]


@pytest.mark.parametrize("together", ["one after the other", "at once", "in one batch"])
async def test_runs_that_overlap_tell_it_once(claimed: Claim, attempts: Attempts, told: Told, together: str) -> None:
    for _ in range(5):
        pipeline = new_id()
        full = await claimed(pipeline_id=pipeline)
        await attempts.record(full, an_end(full, 5))
        empty = [await claimed(pipeline_id=pipeline) for _ in range(3)]
        if together == "in one batch":
            await attempts.record_all([Ended(run, an_end(run, 0)) for run in empty])
        elif together == "at once":
            await asyncio.gather(*(attempts.record(run, an_end(run, 0)) for run in empty))
        else:
            for run in empty:
                await attempts.record(run, an_end(run, 0))
        assert await told(pipeline) == [5]


async def test_it_is_told_again_once_there_were_rows_again(claimed: Claim, attempts: Attempts, told: Told) -> None:
    pipeline = new_id()
    for rows in (5, 0, 0, 7, 0):
        run = await claimed(pipeline_id=pipeline)
        await attempts.record(run, an_end(run, rows))
    assert await told(pipeline) == [5, 7]


@pytest.mark.parametrize(
    "named",
    [
        {"stream": "{{ parameters.region }}.csv"},
        {"stream": None, "query": "SELECT * FROM a WHERE region = {{ parameters.region }}"},
    ],
)
async def test_a_run_is_compared_with_the_last_one_that_read_the_same(
    queue: Queue, attempts: Attempts, told: Told, named: dict[str, Any]
) -> None:
    pipeline, definition = new_id(), a_definition(parameters=REGION)
    definition["sources"]["a"].update(named)

    async def run(region: str, rows: int) -> Claimed:
        queued = await queue(pipeline_id=pipeline, definition=definition, parameters={"region": region})
        (claimed,) = (await attempts.look(OWNER, 1, ())).begun
        assert claimed.run.run_id == queued.run_id
        await attempts.record(claimed.run, an_end(claimed.run, rows))
        return claimed

    assert (await run("EU", 5)).rows_before == {"a": 0}
    assert (await run("US", 0)).rows_before == {"a": 0}
    assert await told(pipeline) == [], "another stream"
    assert (await run("EU", 0)).rows_before == {"a": 5}
    assert await told(pipeline) == [5], "its own, further back"
    await run("US", 3)
    await run("EU", 0)
    assert await told(pipeline) == [5]
    await run("US", 0)
    assert await told(pipeline) == [5, 3]


async def test_another_stream_under_the_old_name_is_not_compared(
    claimed: Claim, attempts: Attempts, told: Told
) -> None:
    pipeline, definition = new_id(), a_definition()
    before = await claimed(pipeline_id=pipeline, definition=definition)
    await attempts.record(before, an_end(before, 5))
    definition["sources"]["a"]["stream"] = "b.csv"
    after = await claimed(pipeline_id=pipeline, definition=definition)
    await attempts.record(after, an_end(after, 0))
    assert await told(pipeline) == []
