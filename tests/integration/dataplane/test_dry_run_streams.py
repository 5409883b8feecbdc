"""A plan of a whole schema: what a run would do with each stream, by the questions of a run, and nothing written."""

import logging
from typing import Any

import asyncpg
import pytest

from dataaggregator.contracts.dry_run import Candidate, DryRunAsked, ForeseenStream, Tried
from dataaggregator.dataplane.dry_run import streams
from dataaggregator.dataplane.dry_run.answer import dry_run
from dataaggregator.dataplane.dry_run.rehearsal import Tools
from dataaggregator.dataplane.job import DryRunJob, RunJob, RunOutcome, SandboxSettings
from dataaggregator.dataplane.opening import Opening
from dataaggregator.dataplane.report import Reporter
from dataaggregator.dataplane.warm import WarmSandbox

from .conftest import MASK_KEY, Bench
from .replicating import fill, good, more, next_run, replication
from .test_dry_run import everything, plan


def previous(before: RunOutcome) -> dict[str, Any]:
    rows = {stage.stage: stage.read for stage in before.ledger.stages if stage.kind == "source"}
    return {"previous_rows": rows, "cursors": before.cursors}


def by_name(tried: Tried | None) -> dict[str, ForeseenStream]:
    assert tried is not None
    assert tried.replicated is not None
    return {one.stream: one for one in tried.replicated.streams}


async def test_every_stream_is_told_as_the_next_run_takes_it(bench: Bench, erp: asyncpg.Connection) -> None:
    for table in ("orders", "gone", "tmp_x"):
        await fill(erp, table, 20)
    await fill(erp, "codes", 5, key=False)
    came = {"read": "incremental", "streams": ["public.*", "!public.tmp_*"]}
    job = replication(bench, came, {"write": "merge"}, overrides={"public.orders": {"drop": ["note"]}})
    first = good(await bench.run(job))
    await more(erp, "orders", 3)
    await fill(erp, "fresh", 1)
    await erp.execute("DROP TABLE gone; ALTER TABLE orders ADD price numeric(10, 2); ALTER TABLE codes DROP note")
    before = await everything(erp)
    told = (await plan(bench, job, None, **previous(first))).current
    assert await everything(erp) == before
    assert told is not None
    assert told.replicated is not None
    assert (told.ok, told.replicated.total, told.replicated.new) == (True, 3, 1), told
    assert (told.replicated.left_out, told.replicated.vanished) == (("public.tmp_x",), ("public.gone",))
    seen = by_name(told)
    assert {name: (one.known, one.read, one.destination.write) for name, one in seen.items()} == {
        "public.codes": (True, "full_refresh", "replace"),
        "public.fresh": (False, "incremental", "merge"),
        "public.orders": (True, "incremental", "merge"),
    }
    changes = {name: [(c.kind, c.field) for c in one.destination.changes] for name, one in seen.items()}
    assert changes == {"public.codes": [], "public.fresh": [("created", None)], "public.orders": [("added", "price")]}
    assert {name: one.destination.road for name, one in seen.items()} == {
        "public.codes": "undecoded",
        "public.fresh": "undecoded",
        "public.orders": "decoded",
    }
    orders, fresh = seen["public.orders"], seen["public.fresh"]
    assert orders.destination.row_schema is not None
    assert list(orders.destination.row_schema["properties"]) == ["id", "updated_at", "price"]
    assert orders.begins is not None
    assert (orders.begins["field"], fresh.begins, fresh.key) == ("updated_at", None, ("id",))
    assert any("primary key" in one and "public.codes" in one for one in told.warnings)
    second = good(await bench.run(next_run(job, first)))
    reads = {stage.stage: stage.read for stage in second.ledger.stages if stage.kind == "source"}
    assert reads == {"erp/public.orders": 3, "erp/public.fresh": 1, "erp/public.codes": 5}


async def test_what_would_fail_is_told_with_its_stream_and_the_others_are_looked_at(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    for table in ("orders", "blocked", "log"):
        await fill(erp, table, 3, cursor=table != "log")
    await erp.execute("CREATE SCHEMA raw; CREATE VIEW raw.blocked AS SELECT 1 AS id")
    strict = {"read": "incremental", "without_cursor": "fail"}
    told = (await plan(bench, replication(bench, strict, {"write": "merge"}), None)).current
    assert told is not None
    assert (told.ok, told.error) == (False, None)
    errors = {name: one.destination.error and one.destination.error.code for name, one in by_name(told).items()}
    assert errors["public.log"] == "replicate-no-cursor"
    assert errors["public.blocked"] is not None
    assert errors["public.orders"] is None
    twice = replication(bench, {"streams": ["*.*"]}, {})
    whole = (await plan(bench, twice, None)).current
    assert whole is not None
    assert whole.error is not None
    assert (whole.ok, whole.error.code) == (False, "replicate-target-twice")


async def test_a_changed_definition_is_told_stream_by_stream(bench: Bench, erp: asyncpg.Connection) -> None:
    for table in ("a", "b", "c"):
        await fill(erp, table, 3)
    now = replication(bench, {"streams": ["public.[ab]"]}, {})
    overrides = {"public.b": {"drop": ["note"]}}
    then = replication(bench, {"streams": ["public.*", "!*.a"]}, {}, overrides=overrides)
    told = (await plan(bench, now, then)).differences
    assert told is not None
    assert {one.stream: one.change for one in told.destinations} == {
        "raw.a": "removed",
        "raw.b": "changed",
        "raw.c": "added",
    }
    (changed,) = (one for one in told.destinations if one.change == "changed")
    assert [(one.kind, one.field) for one in changed.fields] == [("removed", "note")]


async def in_here(bench: Bench, job: RunJob) -> Tried:
    """In this process, whose bounds a test can move."""
    asked = DryRunAsked(
        pipeline_id=None, current=Candidate(definition=job.definition), proposed=None, sample_rows=1, show_rows=False
    )
    opening = Opening(job.settings, bench.folder, logging.getLogger(__name__))
    dry = DryRunJob(asked=asked, connectors=bench.connectors, kept=job.kept)
    sandboxes = WarmSandbox(SandboxSettings(), bench.folder / "spill", bench.pool.templates.sandboxes.forks)
    try:
        told = await dry_run(Tools(dry, MASK_KEY, opening, sandboxes, Silent()))
    finally:
        await opening.close()
    assert told.current is not None
    return told.current


class Silent(Reporter):
    def __init__(self) -> None:
        """Nobody listens."""


async def test_more_streams_than_are_looked_at_are_counted_and_told(
    bench: Bench, erp: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await fill(erp, f"t{number}", 1)
    monkeypatch.setattr(streams, "MOST_LOOKS", 2)
    monkeypatch.setattr(streams, "MOST_LISTED", 3)
    told = await in_here(bench, replication(bench, {}, {}))
    assert told.replicated is not None
    assert (told.ok, told.replicated.total) == (True, 5)
    assert [one.looked_at for one in told.replicated.streams] == [True, True, False]
    assert told.warnings[-1] == "The destinations of 3 of 5 streams were not looked at."
    monkeypatch.setattr(streams, "LOOKS_SECONDS", 0.0)
    late = await in_here(bench, replication(bench, {}, {}))
    assert late.warnings[-1] == "The destinations of 5 of 5 streams were not looked at."
