"""A whole schema in one run: other kinds of connectors, hundreds of tables, patterns that fit nothing, long streams."""

import asyncpg
import pyarrow.parquet as pq
import pytest

from dataaggregator.dataplane.job import Progress
from dataaggregator.errors import Transient
from tests.integration.dataplane.conftest import WORKSPACE, Bench
from tests.integration.dataplane.replicating import fill, good, next_run, replication, same, tables


async def test_patterns_that_fit_nothing_are_told_and_alone_fail_the_run(bench: Bench, erp: asyncpg.Connection) -> None:
    await fill(erp, "a", 3)
    some = good(await bench.run(replication(bench, {"streams": ["public.*", "nowhere.*"]}, {})))
    assert list(some.warnings) == ["No stream of erp fits 'nowhere.*'."]
    none = await bench.run(replication(bench, {"streams": ["nowhere.*"]}, {}))
    assert none.error is not None
    assert (none.status, none.error.code) == ("failed", "replicate-nothing")


async def test_tables_become_folders_of_files_and_files_become_tables(bench: Bench, erp: asyncpg.Connection) -> None:
    for table in ("orders", "customers", 'public."a/b=c.csv"'):
        await fill(erp, table, 30)
    bench.connector("house", "files", {"root": bench.folder.as_uri()})
    outcome = good(await bench.run(replication(bench, {}, {"schema": "lake/raw"})))
    assert {one.stream for one in outcome.destinations} == {
        "lake/raw/orders", "lake/raw/customers", "lake/raw/a%2Fb%3Dc%2Ecsv",
    }  # fmt: skip
    (part,) = (bench.folder / "lake" / "raw" / "orders").glob("*.parquet")
    assert pq.read_table(part).num_rows == 30

    bench.types["erp"], bench.types["house"] = bench.types["house"], bench.types["erp"]
    back = replication(bench, {"streams": ["lake/raw/*"], "read": "incremental"}, {"schema": "back", "write": "merge"})
    outcome = good(await bench.run(back))
    assert await same(erp, "public.orders", "back.orders") == 30
    assert [warning.partition(":")[0] for warning in outcome.warnings] == [
        "Read whole and replaced, for want of a primary key to merge by"
    ]


async def test_what_a_connector_type_cannot_do_is_refused_before_a_row_is_read(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await fill(erp, "orders", 3)
    bench.connector("house", "files", {"root": bench.folder.as_uri()})
    merged = await bench.run(replication(bench, {}, {"write": "merge"}))
    assert merged.error is not None
    assert merged.error.code == "write-mode-unknown"
    bench.connector("house", "http", {"base_url": "http://127.0.0.1:9", "streams": {}})
    posted = await bench.run(replication(bench, {}, {}))
    assert posted.error is not None
    assert posted.error.code == "replicate-unsupported"


async def test_many_streams_that_come_first_into_a_new_schema_do_not_get_in_each_others_way(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    for number in range(12):
        await fill(erp, f"t{number}", 1)
    for number in range(6):
        good(await bench.run(replication(bench, {}, {"schema": f"fresh_{number}"}, parallelism=12)))
        assert len(await tables(erp, f"fresh_{number}")) == 12


async def test_three_hundred_tables_are_loaded_in_one_run_a_few_at_a_time(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await erp.execute(
        "DO $$ BEGIN FOR n IN 1..300 LOOP EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY, note text)', n);"
        " EXECUTE format('INSERT INTO many_%s SELECT k, %L || k FROM generate_series(1, %s) k', n, n, n % 7);"
        " END LOOP; END $$"
    )
    most = 0

    async def on_frame(frame: object) -> None:
        nonlocal most
        bench.frames.append(frame)  # type: ignore[arg-type]
        if isinstance(frame, Progress):
            most = max(most, len(frame.stages))

    async with bench.pool.take(WORKSPACE) as process:
        outcome = good(await process.run(replication(bench, {}, {"write": "merge"}, parallelism=3), on_frame))
    assert len(outcome.destinations) == len(outcome.ledger.receipts) == 300
    assert most <= 2 * 3, "those at work"
    last = [frame for frame in bench.frames if isinstance(frame, Progress)][-1]
    assert (last.phase, last.progress, last.rows_read) == ("done", 1.0, outcome.counts.rows_read)
    for number in (1, 7, 150, 300):
        assert await same(erp, f"public.many_{number}", f"raw.many_{number}") == number % 7


async def test_a_batch_that_is_lost_in_one_stream_is_found_there_and_the_whole_does_not_balance(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    for table in ("a", "b", "c"):
        await fill(erp, table, 3)
    bench.connector("house", "files", {"root": bench.folder.as_uri()})
    outcome = await bench.run_armed(replication(bench, {}, {}, parallelism=1), "run.drop_batch:2")
    assert (outcome.status, outcome.ledger.balanced) == ("failed", False)
    told = {one.stream: (one.status, one.error and one.error.code) for one in outcome.destinations}
    assert told == {"raw/a": ("succeeded", None), "raw/b": ("failed", "unbalanced"), "raw/c": ("succeeded", None)}
    assert any("public.b" in violation for violation in outcome.ledger.violations)


async def test_long_streams_go_in_chunks_and_rows_that_are_marked_as_gone_are_deleted(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await fill(erp, "a", 50)
    await fill(erp, "b", 50)
    await erp.execute("ALTER TABLE b ADD COLUMN gone boolean NOT NULL DEFAULT false")
    job = replication(bench, {"read": "incremental"}, {"write": "merge", "chunk_rows": 20, "delete_when": "gone"})
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit:3")
    outcome = good(await bench.run(bench.again(job)))
    assert [one.receipt and one.receipt.chunks for one in outcome.destinations] == [3, 3]
    assert await same(erp, "public.a", "raw.a") == 50
    await erp.execute("UPDATE b SET gone = true, updated_at = clock_timestamp() WHERE id <= 10")
    good(await bench.run(next_run(job, outcome)))
    assert await erp.fetchval("SELECT count(*) FROM raw.b WHERE id > 10") == 40
    assert await erp.fetchval("SELECT count(*) FROM raw.b") == 40
