"""Each policy against each way in which rows differ from their table: what arrives, is counted, is refused."""

from typing import Any
from uuid import uuid4

import asyncpg
import pyarrow.parquet as pq
import pytest

from dataaggregator.contracts.connector import DestinationDifference
from dataaggregator.dataplane.compile.replay import replayed_at
from dataaggregator.dataplane.job import ReplayedRows, RunJob, RunOutcome
from dataaggregator.errors import Transient

from .conftest import Bench
from .schema_ways import GIVEN, POLICIES, WAYS, held, tables, to, told


@pytest.mark.parametrize("write", ["append", "merge"])
@pytest.mark.parametrize("policy", [*POLICIES, "pause"])
@pytest.mark.parametrize("name", WAYS)
async def test_what_a_policy_makes_of_each_difference(
    pg: Bench, db: asyncpg.Connection, name: str, policy: str, write: str
) -> None:
    way = WAYS[name]
    wanted = getattr(way, policy)
    await tables(db, way.given, way.held, unique=write == "merge")
    outcome = await pg.run(pg.job(GIVEN, [to(policy, write)]))
    if isinstance(wanted, str):
        assert outcome.error is not None
        assert (outcome.status, outcome.error.code, outcome.error.retryable) == ("failed", wanted, False)
        assert await held(db) == []
        return
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert sorted(await held(db)) == wanted
    stage = outcome.ledger.stages[-1]
    assert stage.read == await db.fetchval("SELECT count(*) FROM given")
    assert outcome.counts.rows_rejected == stage.rejected == stage.read - len(wanted)
    assert told(pg) == (way.changes if policy == "evolve" else [])


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.pause == "schema-change-waits"])
async def test_what_waits_is_made_as_by_evolve_once_it_is_approved(
    pg: Bench, db: asyncpg.Connection, name: str
) -> None:
    way = WAYS[name]
    await tables(db, way.given, way.held)
    job = pg.job(GIVEN, [to("pause")])
    [waiting] = (await pg.run(job)).destinations
    there = {"connector": waiting.connector, "stream": waiting.stream}
    approved = tuple(DestinationDifference(**there, **one.model_dump()) for one in waiting.waiting)
    definition = job.definition.model_copy(update={"approved": approved})
    again = pg.again(job).model_copy(update={"definition": definition, "run_id": uuid4()})
    outcome = await pg.run(again)
    assert (outcome.status, outcome.error, outcome.ledger.balanced) == ("succeeded", None, True)
    assert sorted(await held(db)) == way.evolve
    assert told(pg) == way.changes


async def test_every_column_that_differs_is_named_at_once(pg: Bench, db: asyncpg.Connection) -> None:
    given = "SELECT 1::bigint AS id, 'a'::text AS day, 'b'::text AS extra"
    await tables(db, given, "id int, day date, gone text, other date")
    outcome = await pg.run(pg.job(GIVEN, [to("freeze")]))
    assert outcome.error is not None
    for said in ("id: ", "day: ", "extra: ", "gone: ", "bigint is wider than integer", "string does not fit date"):
        assert said in outcome.error.detail
    assert outcome.counts.rows_read == 0


async def test_a_renamed_column_is_added_and_the_old_one_said_to_be_empty(pg: Bench, db: asyncpg.Connection) -> None:
    await tables(db, "SELECT 1 AS id, 'a'::text AS surname", "id int, name text")
    outcome = await pg.run(pg.job(GIVEN, [to("evolve")]))
    assert await held(db) == [(1, None, "a")]
    assert told(pg) == [("surname", None, "text")]
    assert outcome.warnings == ("pg/public.held: the rows lack name and have no value there.",)


async def test_a_merge_leaves_alone_what_the_rows_do_not_have(pg: Bench, db: asyncpg.Connection) -> None:
    await tables(db, "SELECT 1 AS id, 'b'::text AS name", "id int, name text, note text", unique=True)
    await db.execute("INSERT INTO held VALUES (1, 'a', 'mine')")
    for policy in ("evolve", "discard_column", "discard_row"):
        outcome = await pg.run(pg.job(GIVEN, [to(policy, "merge")]))
        assert (outcome.status, outcome.warnings) == ("succeeded", ())
    assert await held(db) == [(1, "b", "mine")]


async def test_values_of_columns_left_out_are_counted_in_ledger_and_warnings(pg: Bench, db: asyncpg.Connection) -> None:
    given = "SELECT n AS id, CASE WHEN n % 4 = 0 THEN 'x' END AS extra, NULL::text AS nothing"
    await tables(db, f"{given} FROM generate_series(1, 200) n", "id int")
    outcome = await pg.run(pg.job(GIVEN, [to("discard_column")]))
    assert outcome.ledger.stages[-1].discarded_by == {"extra": 50}
    assert outcome.warnings == (
        "pg/public.held has no column extra: 50 rows had a value in it, which was left out.",
    )  # fmt: skip
    assert len(await held(db)) == 200
    assert told(pg) == []


async def test_a_table_that_is_not_there_is_made_whatever_the_policy(pg: Bench, db: asyncpg.Connection) -> None:
    for policy in POLICIES:
        await tables(db, "SELECT 1 AS id, 'a'::text AS name", None)
        assert (await pg.run(pg.job(GIVEN, [to(policy)]))).status == "succeeded"
        assert await held(db) == [(1, "a")]
        await db.execute("DROP TABLE held")


async def test_a_column_that_a_view_holds_takes_what_fits_and_refuses_the_rest(
    pg: Bench, db: asyncpg.Connection
) -> None:
    await tables(db, "SELECT 7::bigint AS id", "id int")
    await db.execute("CREATE VIEW seen AS SELECT id FROM held")
    assert (await pg.run(pg.job(GIVEN, [to("evolve")]))).status == "succeeded"
    assert (await held(db), told(pg)) == ([(7,)], [])
    await tables(db, "SELECT 0.5::float8 AS id", None)
    outcome = await pg.run(pg.job(GIVEN, [to("evolve")]))
    assert outcome.error is not None
    assert outcome.error.code == "column-incompatible"
    assert "double does not fit integer, and the table cannot be changed: " in outcome.error.detail
    assert "view" in outcome.error.detail


async def test_a_table_that_somebody_holds_is_waited_for_a_while_and_then_another_time(
    pg: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    await tables(db, "SELECT 1 AS id, 'a'::text AS extra", "id int")
    other = await asyncpg.connect(empty_database_url)
    await other.execute("BEGIN; LOCK TABLE held IN ACCESS SHARE MODE")
    outcome = await pg.run(pg.job(GIVEN, [to("evolve")]))
    await other.close()
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == ("connector-locked", True)
    assert await db.fetchval("SELECT count(*) FROM information_schema.columns WHERE table_name = 'held'") == 1


async def test_rows_with_a_value_too_many_are_kept_with_the_reason_each(pg: Bench, db: asyncpg.Connection) -> None:
    given = "SELECT n::bigint AS id, CASE WHEN n = 2 THEN 'x' END AS extra FROM unnest('{1,2,3000000000}'::int8[]) n"
    await tables(db, given, "id int")
    job = pg.job(GIVEN, [to("discard_row")])
    outcome = await pg.run(job)
    [entry] = outcome.quarantine
    assert (entry.stage, entry.kind, entry.rule, entry.count) == ("pg/public.held", "destination", "schema", 2)
    assert entry.destinations == ("pg/public.held",)
    kept = pq.read_table(f"{job.folder}/{entry.file}").to_pylist()
    assert [row["row"] for row in kept] == [{"id": 2, "extra": "x"}, {"id": 3_000_000_000, "extra": None}]
    assert kept[0]["reason"] == 'column "extra" is not in public.held'
    assert kept[1]["reason"].startswith("Column id (integer): ")
    assert outcome.ledger.stages[-1].rejected_by == {"schema": 2}


@pytest.mark.parametrize(("threshold", "then"), [("1", "fail"), ("1", "warn"), ("2", "fail")])
async def test_rows_that_a_destination_rejects_count_as_rejected(
    pg: Bench, db: asyncpg.Connection, threshold: str, then: str
) -> None:
    await tables(db, "SELECT n AS id, 'x'::text AS extra FROM generate_series(1, 2) n", "id int")
    allowed = {"threshold": threshold, "then": then}
    outcome = await pg.run(pg.job(GIVEN, [to("discard_row")], on_rejected=allowed))
    assert sum(entry.count for entry in outcome.quarantine) == 2
    if (threshold, then) == ("1", "fail"):
        assert outcome.error is not None
        assert outcome.error.code == "rejected-over-threshold"
        assert [entry.destinations for entry in outcome.quarantine] == [()]
        return
    assert outcome.status == "succeeded"
    assert any("2 of 2" in warning or "rejected" in warning for warning in outcome.warnings) == (then == "warn")


OTHER = {"stream": "public.other"}


@pytest.mark.parametrize("failpoint", ["load.before_commit", "load.after_commit", "run.before_outcome"])
@pytest.mark.parametrize("others", [(), (OTHER,)], ids=["straight", "spooled"])
async def test_what_was_set_aside_is_known_also_to_the_attempt_after_a_crash(
    pg: Bench, db: asyncpg.Connection, failpoint: str, others: tuple[dict[str, Any], ...]
) -> None:
    given = "SELECT n AS id, CASE WHEN n % 10 = 0 THEN 'x' END AS extra FROM generate_series(1, 1000) n"
    await tables(db, given, "id int")
    job = pg.job(GIVEN, [to("discard_row"), *(to("evolve", **other) for other in others)])
    with pytest.raises(Transient):
        await pg.run_armed(job, failpoint)
    outcome = await pg.run(pg.again(job))
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert (outcome.counts.rows_rejected, len(await held(db))) == (100, 900)
    assert [entry.count for entry in outcome.quarantine] == [100]
    for other in others:
        assert len(await held(db, other["stream"])) == 1_000


async def test_columns_left_out_are_counted_also_by_the_attempt_after_a_crash(
    pg: Bench, db: asyncpg.Connection
) -> None:
    await tables(db, "SELECT n AS id, 'x'::text AS extra FROM generate_series(1, 9) n", "id int")
    job = pg.job(GIVEN, [to("discard_column")])
    with pytest.raises(Transient):
        await pg.run_armed(job, "load.after_commit")
    outcome = await pg.run(pg.again(job))
    assert outcome.ledger.stages[-1].discarded_by == {"extra": 9}


IN_TURN = {"given": {"connector": "pg", "stream": "public.given", "read": "incremental", "cursor_field": "id"}}


@pytest.mark.parametrize("failpoint", ["load.after_commit", "chunk.committed", "chunk.recorded"])
async def test_what_the_chunks_set_aside_adds_up_across_a_crash(
    pg: Bench, db: asyncpg.Connection, failpoint: str
) -> None:
    given = "SELECT n AS id, CASE WHEN n % 10 = 0 THEN 'x' END AS extra FROM generate_series(1, 1000) n"
    await tables(db, given, "id int, empty text")
    job = pg.job(IN_TURN, [to("discard_row", chunk_rows=300)], on_rejected={"threshold": "99", "then": "warn"})
    with pytest.raises(Transient):
        await pg.run_armed(job, failpoint)
    outcome = await pg.run(pg.again(job))
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert (outcome.counts.rows_rejected, len(await held(db))) == (100, 900)
    assert sum(entry.count for entry in outcome.quarantine) == 100
    assert {entry.destinations for entry in outcome.quarantine} == {("pg/public.held",)}
    assert outcome.warnings[0] == "pg/public.held: the rows lack empty and have no value there."
    assert "100" in outcome.warnings[1]


async def test_a_threshold_counts_what_the_chunks_before_set_aside(pg: Bench, db: asyncpg.Connection) -> None:
    given = "SELECT n AS id, CASE WHEN n % 10 = 0 THEN 'x' END AS extra FROM generate_series(1, 1000) n"
    await tables(db, given, "id int")
    job = pg.job(IN_TURN, [to("discard_row", chunk_rows=300)], on_rejected={"threshold": "50", "then": "fail"})
    outcome = await pg.run(job)
    assert outcome.error is not None
    assert outcome.error.code == "rejected-over-threshold"
    assert len(await held(db)) == 270
    behind = [
        (sum(entry.count for entry in outcome.quarantine if bool(entry.destinations) is yes)) for yes in (True, False)
    ]
    assert behind == [30, 30]


def replay(bench: Bench, job: RunJob, outcome: RunOutcome) -> RunJob:
    made = replayed_at(job.definition, job.definition, (0, 0))
    entries, run = outcome.quarantine, uuid4()
    rows = ReplayedRows(
        source=made.source,
        transformation=made.entry.transformation,
        first=made.entry.first,
        folder=job.folder,
        files=tuple(entry.file for entry in entries),
        rows=sum(entry.count for entry in entries),
    )
    changes = {"run_id": run, "folder": str(bench.folder / str(run)), "epoch": job.epoch + 1}
    return job.model_copy(update={**changes, "definition": made.definition, "replay": rows})


async def test_set_aside_rows_go_in_once_their_column_is_there(pg: Bench, db: asyncpg.Connection) -> None:
    await tables(db, "SELECT n AS id, CASE n WHEN 2 THEN 'x' END AS extra FROM generate_series(1, 3) n", "id int")
    job = pg.job(GIVEN, [to("discard_row")])
    outcome = await pg.run(job)
    in_vain = await pg.run(replay(pg, job, outcome))
    assert (in_vain.status, in_vain.counts.rows_rejected) == ("succeeded", 1)
    await db.execute("ALTER TABLE held ADD COLUMN extra text")
    again = await pg.run(replay(pg, job, outcome))
    assert (again.status, again.error, again.ledger.balanced) == ("succeeded", None, True)
    assert await held(db) == [(1, None), (2, "x"), (3, None)]


async def test_destinations_keep_each_to_their_own_policy(pg: Bench, db: asyncpg.Connection) -> None:
    await tables(db, "SELECT 1 AS id, 'x'::text AS extra UNION ALL SELECT 2, NULL", None)
    for policy in POLICIES:
        await db.execute(f"CREATE TABLE to_{policy} (id int)")
    outcome = await pg.run(pg.job(GIVEN, [to(policy, stream=f"public.to_{policy}") for policy in POLICIES]))
    assert [one.status for one in outcome.destinations] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert await held(db, "to_evolve") == [(1, "x"), (2, None)]
    assert await held(db, "to_freeze") == []
    assert await held(db, "to_discard_column") == [(1,), (2,)]
    assert await held(db, "to_discard_row") == [(2,)]
    assert outcome.counts.rows_rejected == 1


async def test_a_row_that_says_its_key_is_to_go_needs_no_place_for_its_values(
    pg: Bench, db: asyncpg.Connection
) -> None:
    """And one that is set aside keeps the mark it came with."""
    given = """SELECT id, op, extra FROM (VALUES (1, 'd', 'x'), (2, 'd', NULL), (3, 'i', 'x'), (4, 'i', NULL))
        AS v(id, op, extra)"""
    await tables(db, given, "id int, name text NOT NULL DEFAULT 'new'", unique=True)
    await db.execute("INSERT INTO held VALUES (1, 'old'), (2, 'old')")
    job = pg.job(GIVEN, [to("discard_row", "merge", delete_when="op")])
    outcome = await pg.run(job)
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert await held(db) == [(4, "new")]
    [entry] = outcome.quarantine
    rows = pq.read_table(f"{job.folder}/{entry.file}").to_pylist()
    assert [row["row"] for row in rows] == [{"id": 3, "op": "i", "extra": "x"}]


async def test_a_deleted_row_may_be_empty_where_a_row_that_is_there_may_not(pg: Bench, db: asyncpg.Connection) -> None:
    given = "SELECT id, op, name FROM (VALUES (1, 'd', NULL), (2, 'i', NULL), (3, 'i', 'c')) AS v(id, op, name)"
    await tables(db, given, "id int, name text NOT NULL", unique=True)
    await db.execute("INSERT INTO held VALUES (1, 'old')")
    outcome = await pg.run(pg.job(GIVEN, [to("discard_row", "merge", delete_when="op")]))
    assert (outcome.status, outcome.error, outcome.counts.rows_rejected) == ("succeeded", None, 1)
    assert await held(db) == [(3, "c")]
