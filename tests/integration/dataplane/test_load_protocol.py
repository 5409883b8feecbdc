"""Loading into PostgreSQL with real run processes: killed anywhere, the destination holds exactly the expected rows."""

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from dataaggregator.dataplane.failpoints import KILLS
from dataaggregator.dataplane.job import RunJob
from dataaggregator.errors import Transient

from .conftest import Bench

Fill = Callable[[int], Awaitable[None]]
ROWS = 70_000  # more than one batch
AFTER_COMMIT = {"load.after_commit", "load.before_receipt", "run.before_outcome"}
DIGEST = "SELECT count(*), sum(hashtextextended({row}, 0)::numeric)::text FROM {table}"


async def digest(db: asyncpg.Connection, table: str) -> tuple[int, str | None]:
    row = await db.fetchrow(DIGEST.format(row="t::text", table=f"{table} t"))
    assert row is not None
    return row[0], row[1]


def to(write: str, **more: Any) -> dict[str, Any]:
    return {"connector": "pg", "input": "orders", "stream": "public.target", "write": write} | more


SOURCE = {"orders": {"connector": "pg", "stream": "public.orders"}}
SINCE = {"orders": {"connector": "pg", "stream": "public.orders", "read": "incremental", "cursor_field": "id"}}


SWAP = to("replace", replace_strategy="swap")
WAYS = [(SINCE, to("append")), (SOURCE, to("replace")), (SINCE, to("merge", key=["id"])), (SOURCE, SWAP)]


@pytest.mark.parametrize("failpoint", sorted(KILLS))
@pytest.mark.parametrize("way", WAYS, ids=["append", "replace", "merge", "swap"])
async def test_killed_at_any_failpoint_the_next_attempt_completes_it_exactly(
    bench: Bench, orders: Fill, db: asyncpg.Connection, failpoint: str, way: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    await orders(ROWS)
    source, destination = way
    job = bench.job(source, [destination])
    with pytest.raises(Transient) as lost:
        await bench.run_armed(job, failpoint)
    assert lost.value.code == "run-process-lost"
    held = await db.fetchval("SELECT to_regclass('target') IS NOT NULL AND EXISTS (SELECT FROM target)")
    assert held is (failpoint in AFTER_COMMIT)

    outcome = await bench.run(bench.again(job))

    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert outcome.ledger.balanced
    assert outcome.counts.rows_read == ROWS
    assert outcome.destinations[0].receipt is not None
    assert outcome.destinations[0].receipt.verified
    assert await digest(db, "target") == await digest(db, "orders")
    assert await db.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_dataaggregator%'") == 0


async def test_an_append_without_a_key_goes_on_where_the_last_run_committed(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(1_000)
    first = bench.job(SINCE, [to("append")])
    assert (await bench.run(first)).counts.rows_written == 1_000
    await orders(1_500)
    second = bench.job(SINCE, [to("append")], pipeline_id=first.pipeline_id, epoch=2)
    outcome = await bench.run(second)
    assert outcome.counts.rows_written == 500
    assert [known.cursor for known in outcome.cursors] == [{"field": "id", "type": "bigint", "value": "1500"}]
    assert await digest(db, "target") == await digest(db, "orders")


async def test_an_attempt_whose_epoch_is_too_old_commits_nothing(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(10)
    newer = bench.job(SOURCE, [to("append")], epoch=5)
    assert (await bench.run(newer)).status == "succeeded"
    older = bench.job(SOURCE, [to("append")], epoch=4, pipeline_id=newer.pipeline_id)
    outcome = await bench.run(older)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == ("lease-lost", False)
    assert await db.fetchval("SELECT count(*) FROM target") == 10


async def test_a_lost_batch_is_found_before_anything_is_committed(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    job = bench.job(SOURCE, [to("append", input="keep")], [KEEP_ALL])
    outcome = await bench.run_armed(job, "run.drop_batch")
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == ("unbalanced", False)
    assert not outcome.ledger.balanced
    assert await db.fetchval("SELECT count(*) FROM target") == 0
    again = await bench.run(bench.again(job))
    assert (again.status, again.error) == ("succeeded", None)
    assert await db.fetchval("SELECT count(*) FROM target") == ROWS


KEEP_ALL = {"name": "keep", "inputs": ["orders"], "steps": [{"filter": "amount >= 0"}]}


async def test_the_same_run_asked_twice_loads_once(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await orders(100)
    job = bench.job(SOURCE, [to("append")])
    assert (await bench.run(job)).status == "succeeded"
    again = await bench.run(bench.again(job))
    assert again.status == "succeeded"
    assert again.ledger.balanced
    assert await db.fetchval("SELECT count(*) FROM target") == 100


async def test_several_destinations_get_the_same_rows_and_only_the_failed_one_is_tried_again(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(ROWS)
    await db.execute("CREATE TABLE narrow (id smallint)")
    narrow = {"connector": "pg", "input": "orders", "stream": "public.narrow", "write": "append"}
    job = bench.job(SINCE, [to("append"), narrow | {"schema_policy": "freeze"}])
    outcome = await bench.run(job)
    assert outcome.status == "failed"
    assert [one.status for one in outcome.destinations] == ["succeeded", "failed"]
    assert await digest(db, "target") == await digest(db, "orders")

    await db.execute("DROP TABLE narrow")
    await db.execute("CREATE TABLE narrow (LIKE orders)")
    await db.execute("DELETE FROM orders WHERE id > 10")  # whoever reads again would get other rows
    outcome = await bench.run(bench.again(job))
    assert [one.status for one in outcome.destinations] == ["succeeded", "succeeded"]
    assert outcome.ledger.balanced
    assert await digest(db, "narrow") == await digest(db, "target")


async def test_each_value_of_a_parameter_in_a_streams_name_is_a_stream_of_its_own(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    bench.connector("pg", "postgres", {"url": empty_database_url})
    await db.execute("CREATE TABLE north AS SELECT n AS id FROM generate_series(1, 100) n")
    await db.execute("CREATE TABLE south AS SELECT -n AS id FROM generate_series(1, 100) n")
    source = {"connector": "pg", "stream": "public.{{ parameters.side }}", "read": "incremental", "cursor_field": "id"}
    target = {"connector": "pg", "input": "sides", "stream": "public.target", "write": "append"}
    pipeline = uuid4()
    for epoch, side in enumerate(("north", "south", "north"), start=1):
        given: dict[str, Any] = {"parameters": {"side": side}, "declares": {"side": {"type": "string"}}}
        job = bench.job({"sides": source}, [target], pipeline_id=pipeline, epoch=epoch, **given)
        outcome = await bench.run(job)
        assert (outcome.status, outcome.error) == ("succeeded", None)
    assert await db.fetch("SELECT id FROM target EXCEPT ALL (TABLE north UNION ALL TABLE south)") == []
    assert await db.fetchval("SELECT count(*) FROM target") == 200


VALUES = {
    "string": ("EU'); DROP TABLE asked; --", "text"),
    "integer": (2**40, "bigint"),
    "number": (0.1, "double precision"),
    "boolean": (False, "boolean"),
    "date": ("2026-02-28", "date"),
    "timestamp": ("2026-02-28T12:00:00.000001+02:00", "timestamp with time zone"),
}


@pytest.mark.parametrize("steps", [[], [{"filter": "n > 0"}]], ids=["undecoded", "steps"])
async def test_the_parameters_of_a_query_are_bound_as_values_of_their_types(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str, steps: list[dict[str, Any]]
) -> None:
    bench.connector("pg", "postgres", {"url": empty_database_url})
    await db.execute("CREATE TABLE asked AS SELECT n FROM generate_series(1, 3) n")
    chosen = ", ".join(f'{{{{ parameters.{kind} }}}} AS "{kind}"' for kind in VALUES)
    source = {"connector": "pg", "query": f"SELECT n, {chosen} -- {{{{parameters.string}}}}\nFROM asked"}
    target = {"connector": "pg", "input": "shaped" if steps else "asked", "stream": "public.target", "write": "append"}
    shaped = [{"name": "shaped", "inputs": ["asked"], "steps": steps}] if steps else []
    given: dict[str, Any] = {
        "parameters": {kind: value for kind, (value, _) in VALUES.items()},
        "declares": {kind: {"type": kind} for kind in VALUES},
    }
    outcome = await bench.run(bench.job({"asked": source}, [target], shaped, **given))
    assert (outcome.status, outcome.error) == ("succeeded", None)
    rows = await db.fetch("""SELECT "string", "integer", "number", "boolean", "date"::text, "timestamp" FROM target""")
    moment = datetime(2026, 2, 28, 10, 0, 0, 1, tzinfo=UTC)
    assert {tuple(row) for row in rows} == {(VALUES["string"][0], 2**40, 0.1, False, "2026-02-28", moment)}
    assert len(rows) == 3
    types = await db.fetch(
        "SELECT attname, format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 'target'::regclass"
    )
    assert {kind: kept for kind, kept in types if kind in VALUES} == {kind: kept for kind, (_, kept) in VALUES.items()}


async def test_each_value_of_a_parameter_in_a_query_is_a_stream_of_its_own(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    bench.connector("pg", "postgres", {"url": empty_database_url})
    await db.execute("CREATE TABLE both_sides AS SELECT n AS id, n % 2 AS side FROM generate_series(1, 100) n")
    query = "SELECT id FROM both_sides WHERE side = {{ parameters.side }} AND {{ parameters.long }} > ''"
    source = {"connector": "pg", "query": query, "read": "incremental", "cursor_field": "id"}
    shaped = [{"name": "shaped", "inputs": ["sides"], "steps": [{"filter": "id > 0"}]}]
    target = {"connector": "pg", "input": "shaped", "stream": "public.target", "write": "append"}
    pipeline, declares = uuid4(), {"side": {"type": "integer"}, "long": {"type": "string"}}
    read = []
    long = random.Random(1).randbytes(4_000).hex()
    for epoch, side in enumerate((0, 1, 0), start=1):
        given: dict[str, Any] = {"parameters": {"side": side, "long": long}, "declares": declares}
        job = bench.job({"sides": source}, [target], shaped, pipeline_id=pipeline, epoch=epoch, **given)
        outcome = await bench.run(job)
        assert (outcome.status, outcome.error) == ("succeeded", None)
        read.append(outcome.counts.rows_read)
    assert read == [50, 50, 0]
    assert await db.fetchval("SELECT count(DISTINCT id) FROM target") == 100


async def test_a_rename_onto_another_field_is_refused_also_without_the_sandbox(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(1)
    bench.connector("lake", "files", {"root": bench.folder.as_uri()})
    same = {"name": "same", "inputs": ["orders"], "steps": [{"rename": {"customer": "note"}}]}
    out = {"connector": "lake", "input": "same", "stream": "out.ndjson", "write": "replace"}
    outcome = await bench.run(bench.job(SOURCE, [out], [same]))
    assert outcome.error is not None
    assert (outcome.error.code, "two fields would be named note" in outcome.error.detail) == (
        "definition-invalid",
        True,
    )


async def test_a_receipt_that_is_not_there_when_it_is_read_back_fails_the_run(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(10)
    await bench.run(bench.job(SOURCE, [to("replace")]))  # makes the ledger
    await db.execute(
        """CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
               DELETE FROM _dataaggregator.loads WHERE run_id = NEW.run_id; RETURN NULL; END'"""
    )
    await db.execute(
        """CREATE CONSTRAINT TRIGGER forget AFTER INSERT ON _dataaggregator.loads
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION forget()"""
    )
    outcome = await bench.run(bench.job(SOURCE, [to("replace")]))
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "unbalanced")
    assert outcome.ledger.violations == ("pg/public.target: the receipt could not be read back",)


EVEN = {"name": "even", "inputs": ["orders"], "steps": [{"filter": "id % 2 = 0"}]}
ODD = {"name": "odd", "inputs": ["orders"], "steps": [{"filter": "id % 2 = 1"}]}
TO_ODD = {"connector": "pg", "input": "odd", "stream": "public.odd", "write": "append", "schema_policy": "freeze"}


async def ids(db: asyncpg.Connection, table: str) -> list[int]:
    return [row["id"] for row in await db.fetch(f"SELECT id FROM {table} ORDER BY id")]


async def at_different_cursors(bench: Bench, orders: Fill, db: asyncpg.Connection) -> RunJob:
    """A run of 200 orders of which the even ones arrived, then 100 orders more; gives the next run."""
    await orders(200)
    await db.execute("CREATE TABLE odd (id smallint)")
    job = bench.job(SINCE, [to("append", input="even"), TO_ODD], [EVEN, ODD])
    outcome = await bench.run(job)
    assert [one.status for one in outcome.destinations] == ["succeeded", "failed"], outcome.destinations
    await db.execute("DROP TABLE odd")
    await db.execute("CREATE TABLE odd (LIKE orders)")
    await orders(300)
    return job.model_copy(update={"run_id": uuid4(), "epoch": 2, "folder": f"{job.folder}-later"})


async def test_destinations_that_go_on_from_different_cursors_each_get_what_they_lack(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    outcome = await bench.run(await at_different_cursors(bench, orders, db))
    assert [one.status for one in outcome.destinations] == ["succeeded", "succeeded"], outcome.error
    assert outcome.ledger.balanced
    assert await ids(db, "target") == list(range(2, 301, 2))
    assert await ids(db, "odd") == list(range(1, 301, 2))


async def test_one_that_cannot_be_written_leaves_those_at_other_cursors_alone(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    job = await at_different_cursors(bench, orders, db)
    await db.execute("ALTER TABLE target ADD CHECK (id <= 200)")
    outcome = await bench.run(job)
    assert [one.status for one in outcome.destinations] == ["failed", "succeeded"], outcome.error
    assert await ids(db, "target") == list(range(2, 201, 2))
    assert await ids(db, "odd") == list(range(1, 301, 2))


async def test_a_destination_that_another_run_has_moved_on_does_not_hold_up_the_rest_of_a_spool(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await orders(200)
    await db.execute("CREATE TABLE odd (LIKE orders)")
    job = bench.job(SINCE, [to("append", input="even"), TO_ODD], [EVEN, ODD])
    with pytest.raises(Transient, match="run process"):
        await bench.run_armed(job, "load.before_commit")

    await db.execute("ALTER TABLE odd RENAME TO aside")
    await db.execute("CREATE TABLE odd (id smallint)")
    other = job.model_copy(update={"run_id": uuid4(), "epoch": 2, "folder": f"{job.folder}-other"})
    assert [one.status for one in (await bench.run(other)).destinations] == ["succeeded", "failed"]

    await db.execute("DROP TABLE odd")
    await db.execute("ALTER TABLE aside RENAME TO odd")
    again = await bench.run(job.model_copy(update={"attempt": 2, "epoch": 3}))
    assert [one.status for one in again.destinations] == ["succeeded", "succeeded"], again.destinations
    assert again.ledger.balanced
    assert await ids(db, "target") == list(range(2, 201, 2))
    assert await ids(db, "odd") == list(range(1, 201, 2))
