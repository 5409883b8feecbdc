"""Sources with `keep: full`: few rows are read, the steps see them all, and what is lost of a copy costs no row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dataaggregator.contracts.ledger import LedgerStage
from dataaggregator.dataplane.failpoints import KILLS
from dataaggregator.dataplane.job import RunJob, RunOutcome
from dataaggregator.errors import Transient

from .conftest import Bench

ROWS = 70_000  # more than one batch
KEPT = {
    "connector": "pg", "stream": "public.sales", "read": "incremental", "cursor_field": "moved",
    "primary_key": ["id"], "keep": "full",
}  # fmt: skip
TOTALS = {
    "name": "totals",
    "inputs": ["sales"],
    "steps": [{"aggregate": {"by": ["customer"], "measures": {"n": "count(*)", "total": "sum(amount)"}}}],
}
TO = {"connector": "pg", "input": "totals", "stream": "public.totals", "write": "replace"}
ORACLE = "SELECT customer, count(*) AS n, sum(amount) AS total FROM sales GROUP BY customer ORDER BY customer"


@pytest.fixture
async def sales(bench: Bench, db: asyncpg.Connection, empty_database_url: str) -> None:
    """A table whose rows are changed under a new number each time."""
    bench.connector("pg", "postgres", {"url": empty_database_url})
    await db.execute("CREATE SEQUENCE moves")
    await db.execute(
        "CREATE TABLE sales (id bigint PRIMARY KEY, customer int NOT NULL, amount numeric(12,2), "
        "moved bigint NOT NULL DEFAULT nextval('moves'))"
    )
    await add(db, 1, ROWS)


async def add(db: asyncpg.Connection, first: int, last: int) -> None:
    await db.execute(
        "INSERT INTO sales SELECT n, n % 100, (n % 977)::numeric(12,2) / 7 FROM generate_series($1::int, $2::int) n",
        first,
        last,
    )


async def change(db: asyncpg.Connection, first: int, last: int) -> None:
    await db.execute(
        "UPDATE sales SET amount = amount + 1000, customer = customer + 1, moved = nextval('moves') "
        "WHERE id BETWEEN $1 AND $2",
        first,
        last,
    )


class History:
    """The runs of one pipeline, one after the other."""

    def __init__(self, bench: Bench, source: dict[str, Any], destinations: Sequence[dict[str, Any]] = (TO,)) -> None:
        self._bench = bench
        self._first = bench.job({"sales": source}, destinations, [TOTALS])
        self._destinations = destinations
        self._runs = 0

    def next(self, **changed: Any) -> RunJob:
        self._runs += 1
        source = KEPT | changed.pop("source", {})
        return self._bench.job(
            {"sales": source}, self._destinations, [TOTALS],
            pipeline_id=self._first.pipeline_id, epoch=10 * self._runs, **changed,
        )  # fmt: skip

    async def run(self, **changed: Any) -> RunOutcome:
        outcome = await self._bench.run(self.next(**changed))
        assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
        return outcome

    def copies(self) -> list[Path]:
        return sorted(Path(self._first.kept).glob("*/*.parquet"))


@pytest.fixture
def history(bench: Bench, sales: None) -> History:
    return History(bench, KEPT)


async def is_exact(db: asyncpg.Connection, table: str = "totals") -> bool:
    held = await db.fetch(f"SELECT customer, n, total FROM {table} ORDER BY customer")
    return [tuple(row) for row in held] == [tuple(row) for row in await db.fetch(ORACLE)]


def stage(outcome: RunOutcome, name: str) -> LedgerStage:
    return next(one for one in outcome.ledger.stages if one.stage == name)


async def test_new_and_changed_rows_are_read_and_the_totals_are_those_of_all(
    history: History, db: asyncpg.Connection
) -> None:
    first = await history.run()
    assert (first.counts.rows_read, first.warnings) == (ROWS, ())
    assert await is_exact(db)
    await add(db, ROWS + 1, ROWS + 300)
    await change(db, 1, 50)
    second = await history.run()
    assert (second.counts.rows_read, second.warnings) == (350, ())
    assert (stage(second, "sales (new)").read, stage(second, "sales (kept)").read) == (350, ROWS)
    whole = stage(second, "sales.keep")
    assert (whole.read, whole.written, whole.kept, whole.duplicates) == (ROWS + 350, ROWS + 300, ROWS + 300, 50)
    assert (whole.accounting, whole.law) == ("proven", "read, new and kept = kept + duplicates")
    assert await is_exact(db)
    assert (await history.run()).counts.rows_read == 0
    assert await is_exact(db)


@pytest.mark.parametrize("failpoint", sorted(KILLS))
async def test_killed_anywhere_the_next_attempt_and_the_next_run_have_every_row(
    bench: Bench, history: History, db: asyncpg.Connection, failpoint: str
) -> None:
    await history.run()
    await change(db, 1, 1000)
    job = history.next()
    with pytest.raises(Transient):
        await bench.run_armed(job, failpoint)
    outcome = await bench.run(bench.again(job))
    assert (outcome.status, outcome.ledger.violations, outcome.warnings) == ("succeeded", (), ())
    assert await is_exact(db)
    await change(db, 500, 600)
    assert (await history.run()).counts.rows_read == 101
    assert await is_exact(db)


@pytest.mark.parametrize("batch", range(1, 5))
async def test_a_lost_batch_is_found_also_on_its_way_to_the_copy(
    bench: Bench, history: History, db: asyncpg.Connection, batch: int
) -> None:
    outcome = await bench.run_armed(history.next(), f"run.drop_batch:{batch}")
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "unbalanced")
    assert not await db.fetchval("SELECT count(*) FROM totals")
    assert history.copies() == []


async def test_a_copy_of_another_cursor_is_none(history: History, db: asyncpg.Connection) -> None:
    await history.run()
    await change(db, 1, 100)
    await history.run()
    history.copies()[-1].unlink()
    assert (await history.run()).counts.rows_read == ROWS
    assert await is_exact(db)


async def test_a_copy_that_is_gone_or_of_other_rows_is_a_warning_and_a_read_from_the_beginning(
    history: History, db: asyncpg.Connection
) -> None:
    await history.run()
    for copy in history.copies():
        copy.unlink()
    await change(db, 1, 10)
    again = await history.run()
    assert again.counts.rows_read == ROWS
    assert again.warnings == (
        "sales: what was kept up to its cursor is not on this machine; it was read from the beginning.",
    )
    assert await is_exact(db)
    assert (await history.run(source={"primary_key": ["id", "customer"]})).counts.rows_read == ROWS
    await db.execute("ALTER TABLE sales ADD COLUMN note text DEFAULT 'new'")
    assert (await history.run()).counts.rows_read == ROWS
    assert await is_exact(db)
    assert (await history.run(full_refresh=True)).counts.rows_read == ROWS
    assert (await history.run()).counts.rows_read == 0
    assert await is_exact(db)


async def test_a_copy_with_a_wrong_byte_is_noticed_and_given_up(
    bench: Bench, history: History, db: asyncpg.Connection
) -> None:
    await history.run()
    (copy,) = history.copies()
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    job = history.next()
    outcome = await bench.run(job)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable, outcome.error.stage) == (
        "kept-copy-broken", True, "sales (kept)",
    )  # fmt: skip
    again = await bench.run(bench.again(job))
    assert (again.status, again.counts.rows_read) == ("succeeded", ROWS)
    assert await is_exact(db)


async def test_destinations_that_stand_at_different_cursors_each_get_all_rows(
    bench: Bench, sales: None, db: asyncpg.Connection
) -> None:
    behind = TO | {"stream": "public.behind", "schema_policy": "freeze"}
    history = History(bench, KEPT, (TO, behind))
    await history.run()
    await db.execute("ALTER TABLE behind RENAME COLUMN total TO nothing")
    await change(db, 1, 10)
    outcome = await bench.run(history.next())
    assert [one.status for one in outcome.destinations] == ["succeeded", "failed"]
    await db.execute("ALTER TABLE behind RENAME COLUMN nothing TO total")
    await change(db, 5, 20)
    later = await history.run()
    assert later.counts.rows_read == 16 + 20
    assert later.warnings == ()
    assert await is_exact(db)
    assert await is_exact(db, "behind")
    assert len(history.copies()) == 3


async def test_a_row_without_a_key_fails_the_run_by_the_field(bench: Bench, history: History) -> None:
    outcome = await bench.run(
        history.next(source={"stream": None, "query": "SELECT nullif(id, 7) AS id, customer, amount, moved FROM sales"})
    )
    assert outcome.error is not None
    assert outcome.error.code == "merge-key-null"
    assert "1 rows of sales (new) have no value in id" in outcome.error.detail
