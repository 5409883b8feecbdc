"""A dry run over real systems: both definitions on one sample, by the laws of a run, and nothing left behind."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from dataaggregator.contracts.dry_run import Candidate, DryRun, DryRunAsked, Tried
from dataaggregator.dataplane.job import DryRunJob, JobSettings, ProbeJob, RunJob, RunOutcome

from .conftest import MASK_KEY, WORKSPACE, Bench

Fill = Callable[[int], Awaitable[None]]
FROM = {"connector": "pg", "stream": "public.orders"}
TO = {"connector": "pg", "input": "orders", "stream": "public.copied", "write": "replace", "key": ["id"]}
# Whatever is written anywhere in the database is in one of these, and under another xmin if it is written again.
EVERYTHING = """
SELECT c.oid::regclass::text AS name, c.xmin::text AS xmin, c.relkind::text AS kind FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT attrelid::regclass || '.' || attname, xmin::text, '' FROM pg_attribute WHERE attrelid >= 16384
UNION ALL SELECT nspname, xmin::text, '' FROM pg_namespace
ORDER BY 1, 2, 3
"""


async def everything(db: asyncpg.Connection) -> list[Any]:
    """The catalogue and every row of every table, with who wrote it."""
    seen = [tuple(row) for row in await db.fetch(EVERYTHING)]
    tables = [name for name, _, kind in seen if kind == "r"]
    return [*seen, *[(table, await db.fetch(f"SELECT xmin::text, * FROM {table} ORDER BY 1, 2")) for table in tables]]


async def plan(bench: Bench, current: RunJob | None, proposed: RunJob | None, **more: Any) -> DryRun:
    one = proposed or current
    assert one is not None
    both = [
        None if job is None else Candidate(definition=job.definition, parameters=job.parameters)
        for job in (current, proposed)
    ]
    options = {"sample_rows": 1000, "show_rows": True} | more
    given = {name: options.pop(name) for name in ("cursors", "set_by_hand", "previous_rows") if name in options}
    asked = DryRunAsked(pipeline_id=one.pipeline_id, current=both[0], proposed=both[1], **options)
    job = DryRunJob(asked=asked, connectors=bench.connectors, kept=one.kept, **given)
    probe = ProbeJob(
        probe="dry_run", workspace_id=WORKSPACE, mask_key=MASK_KEY, folder=str(bench.folder / "probe"), dry_run=job,
        settings=JobSettings(egress_private=True, allowed_roots=(str(bench.folder),)),
    )  # fmt: skip
    async with bench.pool.take(WORKSPACE) as process:
        answered = await process.probe(probe)
    assert answered.error is None, answered.error
    return DryRun.model_validate(answered.result)


def counts(tried: Tried | None) -> dict[str, tuple[int, int]]:
    assert tried is not None
    return {stage.stage: (stage.read, stage.written) for stage in tried.stages}


async def test_nothing_is_written_anywhere(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(50)
    await db.execute("CREATE TABLE copied (id bigint PRIMARY KEY, customer int)")
    incremental = FROM | {"read": "incremental", "cursor_field": "id"}
    merge = TO | {"write": "merge"}
    outcome = await bench.run(current := bench.job({"orders": incremental}, [merge]))
    assert outcome.status == "succeeded", outcome.error
    before = await everything(db)
    frames = list(bench.frames)
    filtered = [{"name": "few", "inputs": ["orders"], "steps": [{"filter": "id > 10"}, {"derive": {"more": "id + 1"}}]}]
    proposed = bench.job(
        {"orders": incremental}, [merge | {"input": "few"}, merge | {"stream": "elsewhere.new_one"}], filtered,
        pipeline_id=current.pipeline_id,
    )  # fmt: skip
    told = await plan(bench, current, proposed, cursors=outcome.cursors)
    assert told.ok, told
    assert told.proposed is not None
    changes = {one.stream: [(c.kind, c.field) for c in one.changes] for one in told.proposed.destinations}
    assert changes == {"public.copied": [("added", "more")], "elsewhere.new_one": [("created", None)]}
    assert await everything(db) == before
    assert bench.frames == frames, "no cursor, no schema change, no progress of a run"
    assert not list(bench.folder.glob(f"{proposed.run_id}*")), "no run folder, no quarantine"


async def test_both_definitions_get_the_very_same_rows(bench: Bench, orders: Fill) -> None:
    """Read twice, no two random numbers would be the same."""
    source = {"connector": "pg", "query": "SELECT n AS id, random() AS luck FROM generate_series(1, 100) n"}
    current = bench.job({"orders": source}, [TO])
    proposed = bench.job(
        {"orders": source},
        [TO | {"input": "few"}],
        [{"name": "few", "inputs": ["orders"], "steps": [{"filter": "id > 40"}]}],
    )
    told = await plan(bench, current, proposed)
    assert told.differences is not None
    (destination,) = told.differences.destinations
    assert destination.rows is not None
    assert (destination.rows.same, destination.rows.differ, destination.rows.vanish) == (60, 0, 40)


async def test_the_sample_has_the_rows_asked_for_and_says_that_there_are_more(bench: Bench, orders: Fill) -> None:
    await orders(50)
    steps = [{"filter": "id > 0"}, {"name": "sum", "aggregate": {"measures": {"n": "count(*)"}}}]
    node = [{"name": "all", "inputs": ["orders"], "steps": steps}]
    job = bench.job({"orders": FROM}, [TO | {"input": "all", "key": []}], node)
    told = await plan(bench, job, None, sample_rows=49)
    assert told.current is not None
    (source,) = told.current.sources
    assert (source.rows, source.complete, counts(told.current)["orders"]) == (49, False, (49, 49))
    (warning,) = told.current.warnings
    assert warning.startswith("all.sum sees only the sampled rows of orders")
    told = await plan(bench, job, None, sample_rows=50)
    assert told.current is not None
    assert (told.current.sources[0].complete, told.current.warnings) == (True, ())


ROADS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "undecoded": ({}, []),
    "undecoded query": ({"query": "SELECT * FROM orders", "stream": None}, []),
    "decoded": ({}, [{"select": ["id", "amount"]}]),
    "sandbox": ({}, [{"filter": "id > 1"}]),
}


@pytest.mark.parametrize("named", ROADS)
async def test_the_road_is_the_one_that_a_run_takes(
    bench: Bench, orders: Fill, db: asyncpg.Connection, named: str
) -> None:
    """Before there is a table, and with the one that a run has made: a NaN passes where nobody decodes it only."""
    await orders(3)
    (source, steps), road = ROADS[named], named.split(maxsplit=1)[0]
    node = [{"name": "changed", "inputs": ["orders"], "steps": steps}] if steps else []
    job = bench.job({"orders": FROM | source}, [TO | {"input": "changed" if steps else "orders"}], node)
    told = await plan(bench, job, None)
    assert told.current is not None
    assert (told.ok, told.current.destinations[0].road) == (True, road), told
    assert (await bench.run(job)).status == "succeeded"
    told = await plan(bench, job, None)
    assert told.current is not None
    assert (told.current.destinations[0].road, told.current.destinations[0].changes) == (road, ())
    await db.execute("UPDATE orders SET amount = 'NaN' WHERE id = 2")
    again = job.model_copy(update={"run_id": uuid4(), "epoch": 2, "folder": f"{job.folder}-again"})
    outcome = await bench.run(again)
    assert outcome.status == ("succeeded" if road == "undecoded" else "failed"), outcome.error


async def test_a_destination_that_would_refuse_is_told_and_the_others_are_shown(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(3)
    await db.execute(
        "CREATE TABLE frozen (id bigint); CREATE TABLE narrow (id bigint, note int); CREATE VIEW seen AS SELECT 1"
    )
    await db.execute("CREATE TABLE keyless (id bigint)")
    wishes = {
        "public.frozen": ({"schema_policy": "freeze"}, "schema-frozen"),
        "public.narrow": ({}, "column-incompatible"),
        "public.seen": ({}, "stream-not-a-table"),
        "public.keyless": ({"write": "merge"}, "merge-key-not-unique"),
        "public.good": ({}, None),
    }
    job = bench.job({"orders": FROM}, [TO | {"stream": stream} | more for stream, (more, _) in wishes.items()])
    told = await plan(bench, None, job)
    assert told.proposed is not None
    codes = {one.stream: one.error.code if one.error else None for one in told.proposed.destinations}
    assert codes == {stream: code for stream, (_, code) in wishes.items()}
    assert (told.ok, told.proposed.ok, told.proposed.error) == (False, False, None)
    assert await db.fetchval("SELECT to_regclass('public.good')") is None


async def test_what_the_schema_policy_leaves_out_is_told(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(3)
    await db.execute("CREATE TABLE copied (id bigint, customer int, amount numeric(12,2), placed_at timestamptz)")
    told = await plan(bench, None, bench.job({"orders": FROM}, [TO | {"schema_policy": "discard_column"}]))
    assert told.proposed is not None
    (destination,) = told.proposed.destinations
    assert (told.ok, destination.changes, [one.field for one in destination.left]) == (True, (), ["note"])


async def test_rows_that_are_to_go_are_counted_and_unknown_marks_are_told(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(10)
    to = TO | {"write": "merge", "delete_when": "note"}
    await db.execute("UPDATE orders SET note = CASE WHEN id < 4 THEN 'delete' ELSE 'update' END")
    told = await plan(bench, bench.job({"orders": FROM}, [to]), None)
    assert told.current is not None
    (destination,) = told.current.destinations
    assert (told.ok, destination.rows, destination.deletes, destination.road) == (True, 10, 3, "decoded")
    await db.execute("UPDATE orders SET note = 'whatever' WHERE id = 7")
    told = await plan(bench, bench.job({"orders": FROM}, [to]), None)
    assert told.current is not None
    error = told.current.destinations[0].error
    assert (told.ok, error is not None and error.code) == (False, "delete-mark-unknown")


@pytest.mark.parametrize("shown", [True, False])
async def test_the_value_that_a_step_fails_on_is_told_to_who_may_see_rows(
    bench: Bench, orders: Fill, db: asyncpg.Connection, shown: bool
) -> None:
    await orders(10)
    await db.execute("UPDATE orders SET note = 'for Jane Roe' WHERE id = 7")
    step = {"name": "clean", "inputs": ["orders"], "steps": [{"derive": {"n": "id +\n  note::integer"}}]}
    told = await plan(bench, None, bench.job({"orders": FROM}, [TO | {"input": "clean"}], [step]), show_rows=shown)
    assert told.proposed is not None
    assert (error := told.proposed.error) is not None
    assert error.errors[0].field == "transformations[0].steps[0].derive.n"
    assert "line 2, column 7" in error.errors[0].message
    assert (told.ok, error.code, "Jane Roe" in told.model_dump_json()) == (False, "expression-failed", shown)


async def test_an_incremental_source_is_read_on_from_where_runs_are(bench: Bench, orders: Fill) -> None:
    await orders(20)
    source = FROM | {"read": "incremental", "cursor_field": "id"}
    job = bench.job({"orders": source}, [TO | {"write": "merge"}])
    outcome = await bench.run(job)
    told = await plan(bench, job, job, cursors=outcome.cursors)
    assert told.current is not None
    assert (told.current.sources[0].rows, told.current.sources[0].begins) == (20, None)
    assert "no rows behind its cursor" in told.current.warnings[0]
    await orders(25)
    told = await plan(bench, job, job, cursors=outcome.cursors)
    assert told.current is not None
    assert (told.current.sources[0].rows, told.current.warnings) == (5, ())
    assert told.current.sources[0].begins == {"field": "id", "type": "bigint", "value": "20"}


def kept_files(job: RunJob) -> dict[str, tuple[int, bytes]]:
    found = [path for path in Path(job.kept).rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def break_copies(job: RunJob) -> dict[str, tuple[int, bytes]]:
    for path in Path(job.kept).rglob("*.parquet"):
        data = bytearray(path.read_bytes())
        data[8:48] = bytes(40)  # in the rows: what the file says of itself stays good
        path.write_bytes(data)
    return kept_files(job)


async def test_kept_rows_are_looked_at_and_stay_as_they_are(bench: Bench, orders: Fill) -> None:
    await orders(20)
    source = FROM | {"read": "incremental", "cursor_field": "id", "primary_key": ["id"], "keep": "full"}
    node = [{"name": "total", "inputs": ["orders"], "steps": [{"aggregate": {"measures": {"n": "count(*)"}}}]}]
    job = bench.job({"orders": source}, [TO | {"input": "total", "key": []}], node)
    outcome: RunOutcome = await bench.run(job)
    assert outcome.status == "succeeded", outcome.error
    before = kept_files(job)
    assert before
    await orders(25)
    told = await plan(bench, job, None, cursors=outcome.cursors)
    found = counts(told.current)
    assert (found["orders (new)"], found["orders (kept)"], found["orders.keep"]) == ((5, 5), (20, 20), (25, 25))
    assert told.current is not None
    assert (told.ok, told.current.stages[-2].sample) == (True, ({"n": 25},))
    assert kept_files(job) == before
    broken = break_copies(job)
    told = await plan(bench, job, None, cursors=outcome.cursors)
    assert told.current is not None
    assert told.current.error is not None
    assert told.current.error.code == "kept-copy-broken"
    assert kept_files(job) == broken, "a run gives it up, a look does not"


async def test_a_proposal_that_fails_is_told_with_its_place_beside_the_one_that_works(
    bench: Bench, orders: Fill
) -> None:
    await orders(10)
    node = {"name": "changed", "inputs": ["orders"]}
    to = TO | {"input": "changed"}
    current = bench.job({"orders": FROM}, [to], [node | {"steps": [{"filter": "id > 2"}]}])
    for wrong, code in (
        ("id > 2 AND\n note::INT > 0", "expression-failed"),
        ("id > 2 AND\n nothing > 0", "definition-invalid"),
    ):
        proposed = bench.job({"orders": FROM}, [to], [node | {"steps": [{"filter": "id > 0"}, {"filter": wrong}]}])
        told = await plan(bench, current, proposed)
        assert told.current is not None
        assert told.proposed is not None
        assert (told.ok, told.current.ok, told.proposed.ok) == (False, True, False)
        assert told.proposed.error is not None
        assert told.proposed.error.code == code
        (place,) = told.proposed.error.errors
        assert place.field == "transformations[0].steps[1].filter"
        assert "line 2" in place.message or code == "expression-failed", place
        assert told.differences is not None
        assert [one.change for one in told.differences.stages] == ["same", "changed", "added", "same"]
        (destination,) = told.differences.destinations
        assert (destination.rows, destination.current_rows, destination.proposed_rows) == (None, 8, None)
        assert destination.because is not None


BOMBS = {
    "sandbox-timeout": "SELECT count(*) AS n FROM range(1000000000000) a, orders WHERE sqrt(a.range) > 1",
    "sandbox-memory": "SELECT count(DISTINCT repeat(md5(a.range::VARCHAR), 10000)) AS n FROM range(1000000) a, orders",
}


@pytest.mark.parametrize("code", BOMBS)
async def test_a_bomb_in_the_proposal_ends_within_its_limit_and_costs_the_other_nothing(
    bench: Bench, orders: Fill, code: str
) -> None:
    await orders(10)
    current = bench.job({"orders": FROM}, [TO])
    node = {"name": "bomb", "inputs": ["orders"], "steps": [{"sql": BOMBS[code]}]}
    proposed = bench.job({"orders": FROM}, [TO | {"input": "bomb", "key": []}], [node])
    began = time.monotonic()
    told = await plan(bench, current, proposed)
    assert time.monotonic() - began < 40
    assert told.proposed is not None
    assert told.proposed.error is not None
    assert told.proposed.error.code == code, told.proposed.error
    assert told.current is not None
    assert (told.current.ok, counts(told.current)["orders"]) == (True, (10, 10))


async def test_counts_alone_for_those_who_may_not_see_rows(bench: Bench, orders: Fill) -> None:
    await orders(10)
    rule = {"rule": "few", "check": "id < 6", "on_fail": "reject"}
    node = [{"name": "checked", "inputs": ["orders"], "steps": [{"validate": [rule]}]}]
    job = bench.job({"orders": FROM}, [TO | {"input": "checked"}], node)
    shown = await plan(bench, job, job)
    hidden = await plan(bench, job, job, show_rows=False)
    assert "note 7" in shown.model_dump_json()
    assert "note 7" not in hidden.model_dump_json()
    assert counts(hidden.current) == counts(shown.current)
    assert hidden.current is not None
    assert hidden.current.rejected is None
    assert {stage.sample for stage in hidden.current.stages} == {None}
    assert hidden.differences is not None
    (destination,) = hidden.differences.destinations
    assert destination.rows is not None
    assert (destination.rows.same, destination.rows.examples) == (5, None)


async def test_what_would_fail_a_run_for_its_rejected_rows_is_said(bench: Bench, orders: Fill) -> None:
    await orders(10)
    rule = {"rule": "few", "check": "id < 6", "on_fail": "reject"}
    node = [{"name": "checked", "inputs": ["orders"], "steps": [{"validate": [rule]}]}]
    for then in ("fail", "warn"):
        job = bench.job(
            {"orders": FROM}, [TO | {"input": "checked"}], node, on_rejected={"threshold": "10%", "then": then}
        )
        told = await plan(bench, None, job)
        assert told.proposed is not None
        code = told.proposed.error.code if told.proposed.error else None
        said = "5 of 10 rows were rejected; the pipeline allows 10%."
        assert (told.ok, code) == ((False, "rejected-over-threshold") if then == "fail" else (True, None))
        assert (said in told.proposed.warnings) is (then == "warn")
        assert told.proposed.rejected is not None
        assert {(row.step, row.rule) for row in told.proposed.rejected} == {("checked[0].validate", "few")}


async def test_a_source_that_cannot_be_read_fails_its_definition_only(bench: Bench, orders: Fill) -> None:
    await orders(10)
    good, bad = bench.job({"orders": FROM}, [TO]), bench.job({"orders": FROM | {"stream": "public.gone"}}, [TO])
    told = await plan(bench, bad, good)
    assert told.current is not None
    assert told.current.error is not None
    assert (told.current.error.code, told.current.error.stage) == ("stream-missing", "orders")
    assert told.proposed is not None
    assert told.proposed.ok


async def test_chunks_and_swaps_that_could_not_be_are_told(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(5)
    bench.connector("api", "http", {"base_url": "http://127.0.0.1:9", "streams": {"out": {"path": "/out"}}})
    since = FROM | {"read": "incremental", "cursor_field": "id"}
    chunked = TO | {"write": "append", "key": [], "chunk_rows": 100}
    await db.execute("CREATE TABLE copied (LIKE orders); CREATE VIEW seen AS SELECT id FROM copied")
    for source, to, code in (
        (since, chunked | {"connector": "api", "stream": "out"}, "chunk-rows-impossible"),
        (FROM, TO | {"replace_strategy": "swap"}, "swap-impossible"),
        (since, chunked, None),
    ):
        told = await plan(bench, None, bench.job({"orders": source}, [to]))
        assert told.proposed is not None
        (destination,) = told.proposed.destinations
        assert (destination.error and destination.error.code) == code
