"""A run process dies between the commit and the end of the run: all counts that it tells are as without that."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from dataaggregator.dataplane.job import RunJob, RunOutcome
from dataaggregator.errors import Transient

from .conftest import Bench
from .replicating import fill, replication
from .test_runner import ORDERS, keep, target

Fill = Callable[[int], Awaitable[None]]
BEFORE = "CREATE TABLE target (id bigint PRIMARY KEY, amount numeric(12,2))"
SOME = "INSERT INTO target SELECT n, 0 FROM generate_series(1, 20) n"


@dataclass(frozen=True)
class Case:
    """Of a hundred orders; `stays` says that it goes on only where its rows are: those that it rejected, or spooled."""

    steps: tuple[Mapping[str, Any], ...] = ()
    to: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    beside: tuple[Mapping[str, Any], ...] = ()
    """Further destinations."""
    stays: bool = False


CASES = {
    "rows change and go": Case(
        (
            {"filter": "id % 2 = 0"},
            {"validate": [{"rule": "small", "check": "id < 90", "on_fail": "warn"}]},
            {"derive": {"bucket": "id % 10"}},
            {"dedupe": {"key": ["bucket"]}},
        )
    ),
    "totals": Case(({"aggregate": {"by": ["customer"], "measures": {"n": "count(*)"}}},)),
    "nothing is left": Case(({"filter": "id < 0"},)),
    "undecoded": Case(to={"input": "orders"}),
    "replaced": Case(to={"write": "replace"}, steps=({"select": ["id", "amount"]},), before=(BEFORE, SOME)),
    "merged": Case(
        ({"filter": "id > 10"}, {"derive": {"gone": "id <= 30"}}, {"select": ["id", "amount", "gone"]}),
        {"write": "merge", "key": ["id"], "delete_when": "gone"},
        before=(BEFORE, SOME),
    ),
    "a column is left out": Case(
        ({"select": ["id", "amount", "note"]},), {"schema_policy": "discard_column"}, before=(BEFORE,)
    ),
    "a file": Case(({"filter": "id % 2 = 0"},), {"connector": "lake", "stream": "target.parquet"}),
    "chunks": Case(({"filter": "id % 2 = 0"},), {"chunk_rows": 30}, {"read": "incremental", "cursor_field": "id"}),
    "two destinations": Case(({"filter": "id % 2 = 0"},), beside=(target(stream="public.second"),), stays=True),
    "a step rejects": Case(({"validate": [{"rule": "small", "check": "id <= 90"}]},), stays=True),
    "the destination rejects": Case(
        (
            {"derive": {"odd": "CASE WHEN id % 2 = 1 THEN 'x' END"}},
            {"select": ["id", "amount", "odd"]},
        ),
        {"schema_policy": "discard_row"},
        before=(BEFORE,),
        stays=True,
    ),
}


def job_of(bench: Bench, case: Case) -> RunJob:
    bench.connector("lake", "files", {"root": bench.folder.as_uri()})
    steps = [keep(*(dict(step) for step in case.steps))] if case.steps else []
    return bench.job({"orders": {**ORDERS, **case.source}}, [target(**case.to), *case.beside], steps)


async def prepare(bench: Bench, db: asyncpg.Connection, case: Case) -> None:
    await db.execute("DROP TABLE IF EXISTS target, second")
    for statement in case.before:
        await db.execute(statement)
    for file in bench.folder.glob("target.parquet"):
        file.unlink()


def told(outcome: RunOutcome) -> dict[str, Any]:
    """All that it says, but for which run it was and how long it took."""
    assert outcome.status == "succeeded", outcome.error
    assert all(receipt.verified for receipt in outcome.ledger.receipts)
    found = outcome.model_dump(mode="json")
    found["ledger"].pop("run_id")
    found.pop("quarantine")  # where the files lie
    for stage in found["ledger"]["stages"]:
        stage.pop("duration_ms")
    for receipt in (*found["ledger"]["receipts"], *(one["receipt"] for one in found["destinations"])):
        for name in ("committed_at", "read_back_at", "checksum"):
            receipt.pop(name)
    return found


PLACES = [
    (name, failpoint, place)
    for name, case in CASES.items()
    for failpoint in ("load.after_commit", "run.before_outcome")
    for place in ("here", "elsewhere")[: 1 if case.stays else 2]
]


async def died(bench: Bench, db: asyncpg.Connection, case: Case, failpoint: str, place: str) -> tuple[Any, RunJob]:
    """What a run that was not disturbed tells, and the attempt after one that died, in its folder or in another."""
    await prepare(bench, db, case)
    undisturbed = told(await bench.run(job_of(bench, case)))
    await prepare(bench, db, case)
    job = job_of(bench, case)
    with pytest.raises(Transient):
        await bench.run_armed(job, failpoint)
    folder = job.folder if place == "here" else f"{job.folder}-elsewhere"
    return undisturbed, bench.again(job).model_copy(update={"folder": folder})


@pytest.mark.parametrize("death", PLACES, ids=", ".join)
async def test_every_count_is_that_of_a_run_that_was_not_disturbed(
    bench: Bench, orders: Fill, db: asyncpg.Connection, death: tuple[str, str, str]
) -> None:
    case, (failpoint, place) = CASES[death[0]], death[1:]
    await orders(100)
    undisturbed, again = await died(bench, db, case, failpoint, place)
    assert told(await bench.run(again)) == undisturbed


@pytest.mark.parametrize("place", ["here", "elsewhere"])
@pytest.mark.parametrize("name", ["totals", "merged", "undecoded", "chunks"])
async def test_whoever_only_asks_what_was_committed_is_told_every_count(
    bench: Bench, orders: Fill, db: asyncpg.Connection, name: str, place: str
) -> None:
    """Of a run that was to be cancelled, or that has no attempt left."""
    case = CASES[name]
    await orders(100)
    undisturbed, again = await died(bench, db, case, "run.before_outcome", place)
    asking = again.model_copy(update={"only_ask": True})
    assert told(await bench.run(asking)) == undisturbed


@pytest.mark.parametrize("place", ["here", "elsewhere"])
async def test_the_counts_of_every_stream_of_a_schema_are_too(
    bench: Bench, erp: asyncpg.Connection, place: str
) -> None:
    """It dies when one of them is committed; the others are loaded by the next attempt."""
    for table in ("customers", "orders", "returns"):
        await fill(erp, table, 10)
    given: Any = {"read": "incremental"}, {"write": "merge"}
    undisturbed = told(await bench.run(replication(bench, *given, parallelism=1)))
    await erp.execute("DROP SCHEMA raw CASCADE")
    job = replication(bench, *given, parallelism=1)
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit:2")
    folder = job.folder if place == "here" else f"{job.folder}-elsewhere"
    assert told(await bench.run(bench.again(job).model_copy(update={"folder": folder}))) == undisturbed
