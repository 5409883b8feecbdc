"""Rejected rows as the source of a run, through real run processes: exactly, once, and from where they were."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from dataaggregator.dataplane.compile.replay import entry_of, replayed
from dataaggregator.dataplane.job import ReplayedRows, RunJob, RunOutcome

from .conftest import Bench
from .test_runner import ORDERS, keep, target

Fill = Callable[[int], Awaitable[None]]
RULE = {"validate": [{"rule": "small", "check": "id <= 990"}]}


async def rejecting(bench: Bench, *steps: dict[str, Any]) -> tuple[RunJob, RunOutcome]:
    job = bench.job({"orders": ORDERS}, [target()], [keep(*steps)])
    outcome = await bench.run(job)
    assert (outcome.status, outcome.counts.rows_rejected) == ("succeeded", 10), outcome.error
    assert outcome.quarantine[0].destinations == ("pg/public.target",)
    return job, outcome


def replay(bench: Bench, job: RunJob, outcome: RunOutcome, *corrected: dict[str, Any], **more: Any) -> RunJob:
    """Of these rejected rows through the pipeline with these steps."""
    after = bench.job({"orders": ORDERS}, [target()], [keep(*corrected)]).definition
    made = replayed(job.definition, after, entry_of(job.definition, {outcome.quarantine[0].stage}), {0})
    entries = outcome.quarantine
    rows: dict[str, Any] = {
        "source": made.source,
        "transformation": made.entry.transformation,
        "first": made.entry.first,
    }
    rows |= {"folder": job.folder, "files": tuple(entry.file for entry in entries)}
    rows |= {"rows": sum(entry.count for entry in entries)}
    run = uuid4()
    changes = {"run_id": run, "folder": str(bench.folder / str(run)), "epoch": job.epoch + 1}
    return job.model_copy(update={**changes, "definition": made.definition, "replay": ReplayedRows(**rows, **more)})


async def test_rows_go_on_behind_the_mask_that_they_passed(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    """What was hashed is not hashed again, and looks in the destination as its neighbours do."""
    await orders(1_000)
    mask = {"mask": {"customer": "hash"}}
    job, outcome = await rejecting(bench, mask, RULE)
    again = await bench.run(replay(bench, job, outcome, mask, {"filter": "id > 0"}))
    assert (again.status, again.error, again.ledger.balanced) == ("succeeded", None, True)
    assert [stage.stage for stage in again.ledger.stages] == ["rejected-rows", "keep[1].filter", "pg/public.target"]
    straight = bench.job({"orders": ORDERS}, [target(stream="public.straight")], [keep(mask, {"filter": "id > 0"})])
    assert (await bench.run(straight)).status == "succeeded"
    assert await db.fetchval("SELECT count(*) FROM target") == 1_000
    assert await db.fetchval("SELECT count(*) FROM (TABLE target EXCEPT TABLE straight) x") == 0


async def test_what_an_earlier_replay_committed_unseen_is_not_loaded_again(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    """Its executor was lost before it could tell: the destination knows."""
    await orders(1_000)
    job, outcome = await rejecting(bench, RULE)
    lost = replay(bench, job, outcome, {"filter": "true"})
    assert (await bench.run(lost)).status == "succeeded"
    again = await bench.run(replay(bench, job, outcome, {"filter": "true"}, earlier=(lost.run_id,)))
    assert (again.status, again.error) == ("succeeded", None)
    assert again.destinations[0].receipt is not None
    assert again.destinations[0].receipt.verified
    assert await db.fetchval("SELECT count(*) FROM target") == 1_000
    others = await bench.run(replay(bench, job, outcome, {"filter": "true"}, overlapping=(uuid4(), lost.run_id)))
    assert others.error is not None
    assert (others.status, others.error.code) == ("failed", "replay-overlaps")
    assert await db.fetchval("SELECT count(*) FROM target") == 1_000


def remove(job: RunJob, file: str) -> None:
    Path(job.folder, file).unlink()


@pytest.mark.parametrize(("damage", "error"), [("gone", "rejected-rows-gone"), ("fewer", "unbalanced")])
async def test_a_replay_brings_all_rows_of_the_index_or_none(
    bench: Bench, orders: Fill, db: asyncpg.Connection, damage: str, error: str
) -> None:
    await orders(1_000)
    job, outcome = await rejecting(bench, RULE)
    made = replay(bench, job, outcome, {"filter": "true"})
    if damage == "gone":
        remove(job, outcome.quarantine[0].file)
    else:
        assert made.replay is not None
        made = made.model_copy(update={"replay": made.replay.model_copy(update={"rows": 11})})
    again = await bench.run(made)
    assert again.error is not None
    assert (again.status, again.error.code) == ("failed", error)
    assert await db.fetchval("SELECT count(*) FROM target") == 990


async def test_only_destinations_that_committed_are_noted_with_rejected_rows(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(1_000)
    await db.execute("CREATE TABLE narrow (id bigint CHECK (id < 0))")
    outs = [target(), target(stream="public.narrow"), target(stream="public.raw", input="orders")]
    job = bench.job({"orders": ORDERS}, outs, [keep(RULE)])
    outcome = await bench.run(job)
    assert [one.status for one in outcome.destinations] == ["succeeded", "failed", "succeeded"]
    assert outcome.quarantine[0].destinations == ("pg/public.target",)
