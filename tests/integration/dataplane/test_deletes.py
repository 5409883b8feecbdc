"""Deletes through whole runs: by whatever says it, guarded by versions, counted, and out of what is kept."""

import random
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from dataaggregator.dataplane.failpoints import KILLS
from dataaggregator.dataplane.job import RunJob, RunOutcome
from dataaggregator.errors import Transient

from .conftest import Bench

KEYS, ROWS = 500, 4_000
SOURCE = {"changes": {"connector": "pg", "query": "SELECT id, version, note, op FROM changes ORDER BY place"}}
TO = {
    "connector": "pg", "input": "changes", "stream": "public.target", "write": "merge", "key": ["id"],
    "version_field": "version", "delete_when": "op",
}  # fmt: skip


@pytest.fixture
async def changes(bench: Bench, db: asyncpg.Connection, empty_database_url: str) -> None:
    bench.connector("pg", "postgres", {"url": empty_database_url})
    await db.execute("CREATE TABLE changes (place serial, id int, version int, note text, op text)")
    await db.execute("CREATE TABLE target (id int PRIMARY KEY, version int, note text, mine text DEFAULT 'left alone')")


def history(seed: int) -> Iterator[tuple[int, int | None, str, str]]:
    chance = random.Random(seed)
    for number in range(ROWS):
        version = chance.choice([None, *range(40)])
        yield chance.randrange(KEYS), version, f"note {number}", chance.choice(["I", "U", "U", "D", "delete"])


Held = dict[int, tuple[int | None, str]]


def applied(held: Held, rows: list[tuple[int, int | None, str, str]]) -> Held:
    """What one load of these rows leaves, row by row, by the rules as they are written down."""
    winners: dict[int, tuple[int | None, str, str]] = {}
    for key, version, note, op in rows:
        known = winners.get(key)
        if known is None or (version if version is not None else -1) >= (known[0] if known[0] is not None else -1):
            winners[key] = version, note, op
    after = dict(held)
    for key, (version, note, op) in winners.items():
        there = after.get(key)
        if there is not None and there[0] is not None and (version is None or version < there[0]):
            continue
        if op in ("D", "delete"):
            after.pop(key, None)
        else:
            after[key] = version, note
    return after


async def write(db: asyncpg.Connection, rows: list[tuple[int, int | None, str, str]]) -> None:
    await db.execute("TRUNCATE changes")
    await db.copy_records_to_table("changes", records=rows, columns=["id", "version", "note", "op"])


async def held(db: asyncpg.Connection) -> Held:
    return {row["id"]: (row["version"], row["note"]) for row in await db.fetch("SELECT * FROM target")}


def succeeded(outcome: RunOutcome) -> RunOutcome:
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    return outcome


@pytest.mark.parametrize("seed", range(3))
async def test_any_history_leaves_what_the_rules_say_and_adds_up(
    bench: Bench, changes: None, db: asyncpg.Connection, seed: int
) -> None:
    expected: Held = {}
    first = bench.job(SOURCE, [TO])
    for load in range(4):
        rows = list(history(seed * 10 + load))
        await write(db, rows)
        job = first if not load else bench.job(SOURCE, [TO], pipeline_id=first.pipeline_id, epoch=load + 1)
        outcome = succeeded(await bench.run(job))
        before, expected = expected, applied(expected, rows)
        assert await held(db) == expected
        receipt = outcome.destinations[0].receipt
        assert receipt is not None
        parts = (receipt.inserted, receipt.updated, receipt.unchanged, receipt.superseded, receipt.deleted)
        assert sum(parts) == receipt.committed == ROWS
        assert receipt.deleted == len(before.keys() - expected.keys())
        assert receipt.inserted == len(expected.keys() - before.keys())
        stage = outcome.ledger.stages[-1]
        assert stage.marked == sum(op in ("D", "delete") for *_, op in rows)
        assert "deleted <= marked" in (stage.law or "")
    assert await db.fetchval("SELECT count(*) FROM target WHERE mine <> 'left alone'") == 0


@pytest.mark.parametrize("failpoint", sorted(KILLS))
async def test_killed_anywhere_the_next_attempt_deletes_what_is_to_go(
    bench: Bench, changes: None, db: asyncpg.Connection, failpoint: str
) -> None:
    rows = list(history(1))
    await db.execute("INSERT INTO target SELECT n, 1, 'before' FROM generate_series(0, $1) n", KEYS)
    await write(db, rows)
    job: RunJob = bench.job(SOURCE, [TO])
    with pytest.raises(Transient):
        await bench.run_armed(job, failpoint)
    succeeded(await bench.run(bench.again(job)))
    assert await held(db) == applied(dict.fromkeys(range(KEYS + 1), (1, "before")), rows)


async def test_a_word_that_nobody_knows_fails_the_run_and_deletes_nothing(
    bench: Bench, changes: None, db: asyncpg.Connection
) -> None:
    await db.execute("INSERT INTO target VALUES (1, 1, 'there')")
    await write(db, [(1, 2, "gone", "D"), (2, 2, "strange", "X")])
    outcome = await bench.run(bench.job(SOURCE, [TO]))
    assert outcome.error is not None
    assert (outcome.error.code, "In 1 of " in outcome.error.detail) == ("delete-mark-unknown", True)
    assert await held(db) == {1: (1, "there")}


async def test_without_a_tombstone_an_older_row_that_comes_after_a_delete_is_there_again(
    bench: Bench, changes: None, db: asyncpg.Connection
) -> None:
    """As docs/guarantees/delivery.md says: a destination knows versions of the rows it holds, and of no other."""
    first = bench.job(SOURCE, [TO])
    for epoch, row in enumerate([(1, 5, "there", "I"), (1, 9, "gone", "D"), (1, 7, "late", "U")], start=1):
        await write(db, [row])
        succeeded(await bench.run(bench.job(SOURCE, [TO], pipeline_id=first.pipeline_id, epoch=epoch)))
    assert await held(db) == {1: (7, "late")}


async def test_several_destinations_delete_each_by_its_own_field(
    bench: Bench, changes: None, db: asyncpg.Connection
) -> None:
    await db.execute("CREATE TABLE all_of_it (id int PRIMARY KEY, version int, note text, op text)")
    await write(db, [(1, 1, "a", "I"), (2, 1, "b", "I")])
    plain = TO | {"stream": "public.all_of_it", "delete_when": None}
    first = bench.job(SOURCE, [TO, plain])
    succeeded(await bench.run(first))
    await write(db, [(1, 2, "a", "D")])
    succeeded(await bench.run(bench.job(SOURCE, [TO, plain], pipeline_id=first.pipeline_id, epoch=2)))
    assert await held(db) == {2: (1, "b")}
    assert [row["op"] for row in await db.fetch("SELECT op FROM all_of_it ORDER BY id")] == ["D", "I"]


KEPT = {
    "connector": "pg", "stream": "public.sales", "read": "incremental", "cursor_field": "moved",
    "primary_key": ["id"], "keep": "full", "delete_when": "deleted_at",
}  # fmt: skip
TOTALS = {
    "name": "totals",
    "inputs": ["sales"],
    "steps": [{"aggregate": {"by": ["customer"], "measures": {"n": "count(*)", "total": "sum(amount)"}}}],
}
ORACLE = "SELECT customer, count(*) AS n, sum(amount) AS total FROM sales WHERE deleted_at IS NULL GROUP BY customer"


async def test_what_a_kept_source_deletes_leaves_its_copy_and_the_totals(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    bench.connector("pg", "postgres", {"url": empty_database_url})
    await db.execute(
        "CREATE TABLE sales (id int PRIMARY KEY, customer int, amount numeric(12,2), "
        "deleted_at timestamptz, moved serial)"
    )
    await db.execute("INSERT INTO sales SELECT n, n % 7, n FROM generate_series(1, 2000) n")
    to: dict[str, Any] = {"connector": "pg", "input": "totals", "stream": "public.totals", "write": "replace"}
    pipeline = uuid4()
    for epoch, gone in enumerate([0, 300, 1], start=1):
        await db.execute(
            """UPDATE sales SET deleted_at = now(), moved = nextval('sales_moved_seq') WHERE id IN (
                   SELECT id FROM sales WHERE deleted_at IS NULL ORDER BY id LIMIT $1)""",
            gone,
        )
        outcome = succeeded(
            await bench.run(bench.job({"sales": KEPT}, [to], [TOTALS], pipeline_id=pipeline, epoch=epoch))
        )
        stage = next(one for one in outcome.ledger.stages if one.kind == "keep")
        assert (stage.marked, stage.deleted) == (gone, gone)
        assert stage.law == "read, new and kept = kept + duplicates + deleted"
        kept = next(one for one in outcome.ledger.stages if one.kind == "kept")
        assert kept.read == {1: 0, 2: 2000, 3: 1700}[epoch]
        assert await db.fetch("SELECT customer, n, total FROM totals EXCEPT " + ORACLE) == []
        assert await db.fetchval("SELECT sum(n) FROM totals") == await db.fetchval(
            "SELECT count(*) FROM sales WHERE deleted_at IS NULL"
        )


async def test_marks_are_read_also_where_the_bytes_could_pass_as_they_are(
    bench: Bench, changes: None, db: asyncpg.Connection
) -> None:
    """The very same columns on both sides: without delete_when no row would be looked at."""
    await db.execute("CREATE TABLE rows (id int PRIMARY KEY, gone boolean)")
    await db.execute("INSERT INTO rows VALUES (1, false), (2, true), (3, NULL)")
    await db.execute("CREATE TABLE twin (LIKE rows INCLUDING ALL)")
    await db.execute("INSERT INTO twin VALUES (1, NULL), (2, NULL)")
    source = {"rows": {"connector": "pg", "stream": "public.rows"}}
    to = {"connector": "pg", "input": "rows", "stream": "public.twin", "write": "merge", "key": ["id"]}
    succeeded(await bench.run(bench.job(source, [to | {"delete_when": "gone"}])))
    assert [tuple(row) for row in await db.fetch("SELECT * FROM twin ORDER BY id")] == [(1, None), (3, None)]


async def test_without_deletes_what_was_kept_with_them_is_read_again(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    bench.connector("pg", "postgres", {"url": empty_database_url})
    await db.execute("CREATE TABLE sales (id int PRIMARY KEY, deleted_at timestamptz, moved serial)")
    await db.execute("INSERT INTO sales SELECT n, CASE WHEN n > 8 THEN now() END FROM generate_series(1, 10) n")
    to: dict[str, Any] = {"connector": "pg", "input": "sales", "stream": "public.held", "write": "replace"}
    first = bench.job({"sales": KEPT}, [to])
    succeeded(await bench.run(first))
    assert await db.fetchval("SELECT count(*) FROM held") == 8
    without = KEPT | {"delete_when": None}
    succeeded(await bench.run(bench.job({"sales": without}, [to], pipeline_id=first.pipeline_id, epoch=2)))
    assert await db.fetchval("SELECT count(*) FROM held") == 10
