"""The machine dies between a destination's commit and the end of the run: another one tells the counts all the same."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from dataaggregator.dataplane import noting
from dataaggregator.dataplane.admission import Apart
from dataaggregator.dataplane.extract import Extract
from dataaggregator.dataplane.job import RunJob, RunOutcome
from dataaggregator.dataplane.tally import Counted
from dataaggregator.errors import Transient

from .conftest import Bench
from .test_runner import ORDERS, keep, target

Fill = Callable[[int], Awaitable[None]]
STEPS = ({"filter": "id % 2 = 0"}, {"derive": {"more": "id + 1"}})


def ledger(outcome: RunOutcome) -> list[Any]:
    assert outcome.ledger.balanced, outcome.ledger.violations
    return [
        (one.stage, one.kind, one.accounting, one.read, one.written, one.filtered, one.rejected)
        for one in outcome.ledger.stages
    ]


async def elsewhere(bench: Bench, job: RunJob, failpoint: str) -> RunOutcome:
    """The next attempt of a run that died there, on a machine that has nothing of it."""
    with pytest.raises(Transient):
        await bench.run_armed(job, failpoint)
    return await bench.run(bench.again(job).model_copy(update={"folder": f"{job.folder}-elsewhere"}))


def into(bench: Bench, kind: str, name: str) -> dict[str, Any]:
    if kind == "files":
        bench.connector("lake", "files", {"root": bench.folder.as_uri()})
        return target(connector="lake", stream=f"{name}.parquet")
    return target(stream=f"public.{name}")


@pytest.mark.parametrize("kind", ["postgres", "files"])
async def test_the_ledger_is_that_of_a_run_that_was_not_disturbed(bench: Bench, orders: Fill, kind: str) -> None:
    await orders(1_000)
    undisturbed = await bench.run(bench.job({"orders": ORDERS}, [into(bench, kind, "one")], [keep(*STEPS)]))
    job = bench.job({"orders": ORDERS}, [into(bench, kind, "two")], [keep(*STEPS)])
    outcome = await elsewhere(bench, job, "load.after_commit")
    assert (outcome.status, outcome.warnings, outcome.counts.rows_filtered) == ("succeeded", (), 500), outcome.error
    renamed = [(stage.replace("two", "one"), *rest) for stage, *rest in ledger(outcome)]
    assert renamed == ledger(undisturbed)
    assert outcome.ledger.accounting == undisturbed.ledger.accounting == "proven"
    assert outcome.counts == undisturbed.counts


async def test_what_one_destination_has_is_told_beside_what_the_other_gets_now(bench: Bench, orders: Fill) -> None:
    await orders(100)
    outs = [target(stream="public.one"), target(stream="public.two")]
    outcome = await elsewhere(bench, bench.job({"orders": ORDERS}, outs, [keep(*STEPS)]), "load.after_commit:1")
    assert (outcome.status, outcome.warnings) == ("succeeded", ()), outcome.error
    written = {stage: row for stage, *row in ledger(outcome) if stage.startswith("pg/")}
    assert {stage: (row[2], row[3]) for stage, row in written.items()} == {
        "pg/public.one": (50, 50),
        "pg/public.two": (50, 50),
    }
    assert outcome.ledger.accounting == "proven"


async def test_of_a_run_that_rejected_rows_it_is_said_that_its_counts_are_lost(bench: Bench, orders: Fill) -> None:
    """They were in the folder with the rows."""
    await orders(100)
    rule = {"validate": [{"rule": "small", "check": "id <= 90"}]}
    outcome = await elsewhere(bench, bench.job({"orders": ORDERS}, [target()], [keep(rule)]), "load.after_commit")
    assert (outcome.status, outcome.ledger.accounting) == ("succeeded", "unaccounted"), outcome.error
    assert "committed 90 rows; its other counts are lost" in outcome.warnings[0]
    assert (outcome.counts.rows_read, outcome.counts.rows_written) == (90, 90), "at least these were read"
    assert outcome.counts.bytes_written > 0, "what the load itself took is noted of every run"


async def test_a_note_of_another_version_is_no_note(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(100)
    job = bench.job({"orders": ORDERS}, [target()], [keep(*STEPS)])
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit")
    await db.execute('UPDATE _dataaggregator.loads SET note = \'{"words": "of tomorrow"}\'')
    outcome = await bench.run(bench.again(job).model_copy(update={"folder": f"{job.folder}-elsewhere"}))
    assert "its other counts are lost" in outcome.warnings[0]


def test_of_what_is_too_long_only_that_is_noted_which_the_load_took() -> None:
    given: dict[str, Any] = {
        "takers": (),
        "came_from": {},
        "cursors": {},
        "stages": (),
        "edges": (),
        "producers": {},
        "counts": {},
    }
    extract = Extract.model_validate(given)
    counted = Counted("destination", bytes=7, batches=1, marked=3, started=10.0, ended=10.5)
    taken = noting.Taken(bytes=7, batches=1, marked=3, duration_ms=500)
    whole = noting.Note(extract=extract, apart=Apart(), taken=taken)
    assert noting.read(noting.written(extract, Apart(), counted)) == whole
    long = extract.model_copy(update={"warnings": ("x" * noting.MOST_BYTES,)})
    assert noting.read(noting.written(long, Apart(), counted)) == noting.Note(taken=taken)
