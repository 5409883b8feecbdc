"""A filter that PostgreSQL does: the ledger has every count that it has where the engine does it."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from dataaggregator.contracts.ledger import LedgerStage
from dataaggregator.dataplane.job import RunOutcome

from .conftest import Bench
from .test_dry_run import plan
from .test_narrow_reads import BY_CUSTOMER, succeeded
from .test_runner import ORDERS, keep, target

Fill = Callable[[int], Awaitable[None]]
FILTER = {"name": "early", "filter": "customer < 20"}
OF_A_VIEW = ORDERS | {"stream": "public.seen"}
COSTS = {"bytes", "batches", "duration_ms", "pushed_down"}


async def ready(orders: Fill, db: asyncpg.Connection) -> None:
    """30 orders, of which 3 have no customer; and a view of them, whose filters the engine does."""
    await orders(30)
    await db.execute("ALTER TABLE orders ALTER customer DROP NOT NULL")
    await db.execute("UPDATE orders SET customer = NULL WHERE id % 10 = 0")
    await db.execute("CREATE VIEW seen AS SELECT * FROM orders")


def stage(outcome: RunOutcome, name: str) -> LedgerStage:
    (found,) = [stage for stage in outcome.ledger.stages if stage.stage == name]
    return found


async def both(bench: Bench, steps: list[dict[str, Any]], **more: Any) -> tuple[RunOutcome, RunOutcome]:
    """Pushed down, and done by the engine."""
    jobs = [bench.job({"orders": one}, [target("replace", **more)], [keep(*steps)]) for one in (ORDERS, OF_A_VIEW)]
    return await succeeded(bench, jobs[0]), await succeeded(bench, jobs[1])


async def test_every_count_is_that_of_a_filter_by_the_engine(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await ready(orders, db)
    pushed, done = await both(bench, [FILTER, BY_CUSTOMER])
    early = stage(pushed, "keep.early")
    assert (early.pushed_down, stage(done, "keep.early").pushed_down) == (True, False)
    assert (early.read, early.written, early.filtered) == (30, 18, 12)
    assert early.filtered_by == {"condition is false": 9, "condition is null": 3}
    assert (pushed.ledger.accounting, pushed.ledger.edges) == ("proven", done.ledger.edges)
    one, other = ([each.model_dump(exclude=COSTS) for each in found.ledger.stages[:-1]] for found in (pushed, done))
    assert one == other
    rows = {"rows_read", "rows_written", "rows_filtered", "rows_rejected"}
    assert pushed.counts.model_dump(include=rows) == done.counts.model_dump(include=rows)
    assert await db.fetchval("SELECT sum(orders) FROM target") == 18


async def test_rows_that_are_left_out_are_not_sent(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    """One of them has a value that cannot be read: it would end the run."""
    await ready(orders, db)
    await db.execute("UPDATE orders SET amount = 'NaN' WHERE id = 25")
    job = bench.job({"orders": ORDERS}, [target()], [keep(FILTER)])
    assert (await succeeded(bench, job)).counts.rows_read == 30
    refused = await bench.run(bench.job({"orders": OF_A_VIEW}, [target()], [keep(FILTER)]))
    assert refused.error is not None
    assert refused.error.code == "value-not-representable"


async def test_a_filter_that_lets_nothing_pass_is_told_like_any_other(
    bench: Bench, orders: Fill, db: asyncpg.Connection
) -> None:
    await ready(orders, db)
    pushed, done = await both(bench, [{"name": "early", "filter": "id > 30"}])
    assert (stage(pushed, "keep.early").read, stage(pushed, "keep.early").filtered) == (30, 30)
    assert (pushed.warnings, pushed.emptied) == (done.warnings, done.emptied) == ((), ())


async def test_a_batch_that_is_lost_on_its_way_is_found(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await ready(orders, db)
    await succeeded(bench, bench.job({"orders": ORDERS}, [target()], [keep(FILTER)]))
    outcome = await bench.run_armed(bench.job({"orders": ORDERS}, [target()], [keep(FILTER)]), "run.drop_batch")
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "unbalanced")
    assert await db.fetchval("SELECT count(*) FROM target") == 18


async def test_a_plan_says_which_filters_the_source_does(bench: Bench, orders: Fill, db: asyncpg.Connection) -> None:
    await ready(orders, db)
    current, proposed = (bench.job({"orders": one}, [target()], [keep(FILTER)]) for one in (OF_A_VIEW, ORDERS))
    told = await plan(bench, current, proposed)
    assert told.current is not None
    assert told.proposed is not None
    pushed = [
        {one.stage: one.pushed_down for one in side.stages}["keep.early"] for side in (told.current, told.proposed)
    ]
    assert pushed == [False, True]
