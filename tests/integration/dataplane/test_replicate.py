"""A whole schema in one run: every stream held against its source row by row, and what is left where one fails."""

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dataaggregator.contracts.replicate import USUAL_CURSORS
from dataaggregator.dataplane.job import Progress
from dataaggregator.errors import Transient
from tests.integration.dataplane.conftest import WORKSPACE, Bench
from tests.integration.dataplane.replicating import fill, good, more, next_run, replication, same, tables

ODD = ['public."We.ird"', 'public."a""b"', 'public."Ünï Cødé"', 'public."has space"', "public.CamelCase"]


async def test_every_stream_arrives_row_by_row_whatever_it_is_called(bench: Bench, erp: asyncpg.Connection) -> None:
    for table in ("orders", "customers", "tmp_x"):
        await fill(erp, table, 50)
    for number, name in enumerate(ODD):
        await fill(erp, name, number + 1)
    await erp.execute('CREATE TABLE "tmp_a.b" (id int); INSERT INTO "tmp_a.b" VALUES (1)')
    await erp.execute("CREATE TABLE nothing (id bigint PRIMARY KEY, note text)")
    await erp.execute("CREATE VIEW some_orders AS SELECT * FROM orders WHERE id <= 10")
    await erp.execute("CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at)")
    await erp.execute("CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')")
    await erp.execute("INSERT INTO parted SELECT n, '2026-01-01'::date + n FROM generate_series(0, 20) n")
    outcome = good(await bench.run(replication(bench, {"streams": ["public.*", "!public.tmp_*"]}, {})))
    expected = ["orders", "customers", "nothing", "some_orders", "parted", *ODD]
    for name in expected:
        plain = name.removeprefix("public.")
        plain = "camelcase" if plain == "CamelCase" else plain
        await same(erp, f"public.{plain}", f"raw.{plain}")
    assert len(await tables(erp)) == len(outcome.destinations) == len(expected)
    assert {one.stream for one in outcome.destinations} >= {"raw.orders", 'raw."We.ird"', 'raw."a""b"', "raw.parted"}
    assert outcome.counts.rows_read == outcome.counts.rows_written == 50 + 50 + 0 + 10 + 21 + 15
    assert {stage.stage for stage in outcome.ledger.stages} >= {"erp/public.orders", "house/raw.orders"}
    assert len({stage.stage for stage in outcome.ledger.stages}) == 2 * len(expected)


async def test_a_name_with_quotes_is_found_with_them_and_without(bench: Bench, erp: asyncpg.Connection) -> None:
    for name in ODD:
        await fill(erp, name, 1)
    outcome = good(await bench.run(replication(bench, {"streams": ["public.We*", 'public."a""*']}, {})))
    assert [one.stream for one in outcome.destinations] == ['raw."We.ird"', 'raw."a""b"']


async def test_a_stream_goes_on_by_its_cursor_and_one_without_cursor_or_key_is_replaced_and_said_so(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await fill(erp, "orders", 100)
    await fill(erp, "no_cursor", 10, cursor=False)
    await fill(erp, "no_key", 10, key=False)
    job = replication(bench, {"read": "incremental"}, {"write": "merge"})
    first = good(await bench.run(job))
    assert [known.source for known in first.cursors] == ["stream:public.orders"]
    assert list(first.warnings) == [
        f"Read whole, for want of a cursor field ({', '.join(USUAL_CURSORS)}): public.no_cursor.",
        "Read whole and replaced, for want of a primary key to merge by: public.no_key.",
    ]
    for table in ("orders", "no_cursor", "no_key"):
        await more(erp, table, 5)
    second = good(await bench.run(next_run(job, first)))
    reads = {stage.stage: stage.read for stage in second.ledger.stages if stage.kind == "source"}
    assert reads == {"erp/public.orders": 5, "erp/public.no_cursor": 15, "erp/public.no_key": 15}
    for table in ("orders", "no_cursor", "no_key"):
        await same(erp, f"public.{table}", f"raw.{table}")


async def test_a_stream_that_cannot_go_on_is_refused_where_its_rows_would_be_appended_again(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await fill(erp, "orders", 10)
    await fill(erp, "no_cursor", 10, cursor=False)
    job = replication(bench, {"read": "incremental"}, {"write": "append"})
    outcome = await bench.run(job)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == ("streams-failed", False)
    told = {one.stream: (one.status, one.error and one.error.code) for one in outcome.destinations}
    assert told == {"raw.no_cursor": ("failed", "replicate-no-cursor"), "raw.orders": ("succeeded", None)}
    assert await tables(erp) == ["orders"]
    await more(erp, "orders", 5)
    excluded = replication(
        bench, {"read": "incremental", "streams": ["public.*", "!*.no_cursor"]}, {"write": "append"},
        pipeline_id=job.pipeline_id, epoch=5,
    )  # fmt: skip
    assert good(await bench.run(excluded)).counts.rows_read == 5
    assert await same(erp, "public.orders", "raw.orders") == 15


async def test_streams_that_would_meet_in_one_are_refused_before_a_row_is_read(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await erp.execute("CREATE SCHEMA sales")
    for table in ("public.orders", "sales.orders", "sales.other"):
        await fill(erp, table, 3)
    streams = ["public.*", "sales.*"]
    outcome = await bench.run(replication(bench, {"streams": streams}, {}))
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "replicate-target-twice")
    assert "public.orders and sales.orders into raw.orders" in outcome.error.detail
    assert await tables(erp) == []
    good(await bench.run(replication(bench, {"streams": streams}, {"schema": "raw_{schema}"})))
    assert (await tables(erp, "raw_public"), await tables(erp, "raw_sales")) == (["orders"], ["orders", "other"])


async def test_a_stream_is_never_replicated_into_itself(bench: Bench, erp: asyncpg.Connection) -> None:
    await erp.execute("CREATE SCHEMA raw")
    await fill(erp, "raw.orders", 3)
    bench.types["house"] = bench.types["erp"]
    outcome = await bench.run(replication(bench, {"streams": ["*"]}, {}))
    assert outcome.error is not None
    assert outcome.error.code == "replicate-into-itself"
    assert await erp.fetchval("SELECT count(*) FROM raw.orders") == 3


async def test_a_stream_that_fails_leaves_the_others_alone_and_the_next_attempt_goes_to_it_alone(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    for table in ("a", "b", "c"):
        await fill(erp, table, 20)
    await erp.execute("CREATE SCHEMA raw; CREATE VIEW raw.b AS SELECT 1 AS id")
    job = replication(bench, {"read": "incremental"}, {"write": "append"})
    outcome = await bench.run(job)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.detail.startswith("1 of 3 streams failed: public.b (")
    assert [one.status for one in outcome.destinations] == ["succeeded", "failed", "succeeded"]
    await erp.execute("DROP VIEW raw.b")
    for table in ("a", "b", "c"):
        await more(erp, table, 5)
    again = good(await bench.run(bench.again(job)))
    reads = {stage.stage: stage.read for stage in again.ledger.stages if stage.kind == "source"}
    assert reads == {"erp/public.a": 20, "erp/public.b": 25, "erp/public.c": 20}
    assert await erp.fetchval("SELECT count(*) FROM raw.a") == 20
    assert await same(erp, "public.b", "raw.b") == 25


@pytest.mark.parametrize("failpoint", ["load.after_commit:3", "load.before_commit:3", "run.before_outcome:4"])
@pytest.mark.parametrize("write", ["append", "merge"])
async def test_killed_in_the_middle_the_next_attempt_brings_what_is_missing_and_nothing_twice(
    bench: Bench, erp: asyncpg.Connection, failpoint: str, write: str
) -> None:
    names = [f"t{number}" for number in range(8)]
    for table in names:
        await fill(erp, table, 100)
    job = replication(bench, {"read": "incremental"}, {"write": write}, parallelism=2)
    with pytest.raises(Transient) as lost:
        await bench.run_armed(job, failpoint)
    assert lost.value.code == "run-process-lost"
    before = set(await tables(erp))
    assert before
    outcome = good(await bench.run(bench.again(job)))
    assert outcome.counts.rows_read == 800
    for table in names:
        assert await same(erp, f"public.{table}", f"raw.{table}") == 100


async def test_on_another_machine_too_nothing_comes_twice(bench: Bench, erp: asyncpg.Connection) -> None:
    for table in ("a", "b", "c"):
        await fill(erp, table, 10)
    job = replication(bench, {"read": "incremental"}, {"write": "append"}, parallelism=1)
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit:2")
    elsewhere = bench.again(job).model_copy(update={"folder": str(bench.folder / "elsewhere")})
    outcome = good(await bench.run(elsewhere))
    assert (outcome.counts.rows_read, outcome.warnings) == (30, ())
    for table in ("a", "b", "c"):
        assert await same(erp, f"public.{table}", f"raw.{table}") == 10
    assert {stage.stage for stage in outcome.ledger.stages if stage.kind == "source"} == {
        f"erp/public.{table}" for table in ("a", "b", "c")
    }


async def test_new_and_vanished_streams_are_handled_as_the_policies_say(bench: Bench, erp: asyncpg.Connection) -> None:
    for table in ("a", "b"):
        await fill(erp, table, 3)
    job = replication(bench, {}, {})
    first = good(await bench.run(job))
    await fill(erp, "c", 3)
    await erp.execute("DROP TABLE b")
    second = good(await bench.run(next_run(job, first)))
    assert list(second.warnings) == ["public.b is not there any more; what was loaded of it stays at the destination."]
    assert await tables(erp) == ["a", "b", "c"]
    assert await erp.fetchval("SELECT count(*) FROM raw.b") == 3
    await erp.execute("DROP TABLE raw.c")

    ignoring = replication(bench, {}, {}, on_new="ignore")
    third = good(await bench.run(next_run(ignoring, first)))
    assert "public.c is new and was not loaded, as on_new says." in third.warnings
    assert await tables(erp) == ["a", "b"]
    for policy, code in (({"on_new": "fail"}, "replicate-new"), ({"on_vanished": "fail"}, "replicate-vanished")):
        refused = await bench.run(next_run(replication(bench, {}, {}, **policy), first))
        assert refused.error is not None
        assert (refused.status, refused.error.code, refused.destinations) == ("failed", code, ())
    left_out = replication(bench, {"streams": ["public.*", "!public.b", "!public.c"]}, {}, on_vanished="fail")
    assert good(await bench.run(next_run(left_out, first))).warnings == ()


async def test_tables_are_swapped_for_ones_built_beside_them_where_that_is_wished(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    for table in ("a", "b", "c", "d"):
        await fill(erp, table, 20)
    job = replication(bench, {}, {"replace_strategy": "swap"})
    first = good(await bench.run(job))
    before = await erp.fetchval("SELECT 'raw.a'::regclass::oid")
    await more(erp, "a", 5)
    good(await bench.run(next_run(job, first)))
    assert await erp.fetchval("SELECT 'raw.a'::regclass::oid") != before
    for table, rows in (("a", 25), ("b", 20), ("c", 20), ("d", 20)):
        assert await same(erp, f"public.{table}", f"raw.{table}") == rows


async def test_streams_of_an_api_become_tables(bench: Bench, erp: asyncpg.Connection) -> None:
    answers = {"/people": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}], "/teams": [{"id": 7}], "/else": [{"id": 8}]}

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(answers[request.path])

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    async with TestServer(application) as server:
        streams = {path.strip("/"): {"path": path, "primary_key": ["id"]} for path in answers}
        bench.connector("erp", "http", {"base_url": str(server.make_url("/")), "streams": streams})
        job = replication(bench, {"streams": ["*", "!else"]}, {"write": "merge"})
        outcome = good(await bench.run(job))
    assert [one.stream for one in outcome.destinations] == ["raw.people", "raw.teams"]
    found = await erp.fetch("SELECT id, name FROM raw.people ORDER BY id")
    assert [tuple(row) for row in found] == [(1, "a"), (2, "b")]


async def test_a_table_that_goes_while_the_run_is_at_work_is_told_and_fails_nothing(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    for table in ("a", "b"):
        await fill(erp, table, 3)
    job = replication(bench, {"read": "incremental"}, {"write": "append"}, parallelism=1)
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.before_commit:2")
    await erp.execute("DROP TABLE b")
    outcome = good(await bench.run(bench.again(job)))
    assert list(outcome.warnings) == ["public.b is not there any more; what was loaded of it stays at the destination."]
    assert [one.stream for one in outcome.destinations] == ["raw.a"]
    assert await same(erp, "public.a", "raw.a") == 3


async def test_a_run_of_which_no_table_is_left_has_failed(bench: Bench, erp: asyncpg.Connection) -> None:
    await fill(erp, "a", 3)
    job = replication(bench, {}, {})
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.before_commit")
    await erp.execute("DROP TABLE a")
    outcome = await bench.run(bench.again(job))
    assert outcome.status == "failed"
    assert [one.error and one.error.code for one in outcome.destinations] == ["stream-missing"]


async def test_a_stream_of_which_a_part_is_gone_has_not_vanished_but_failed(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await fill(erp, "orders", 3)
    bench.connector("house", "files", {"root": bench.folder.as_uri()})
    for _ in range(2):
        good(await bench.run(replication(bench, {"read": "incremental"}, {"schema": "lake", "write": "append"})))
    parts = sorted((bench.folder / "lake" / "orders").glob("*.parquet"))
    assert len(parts) == 2
    parts[0].unlink()
    bench.types["erp"], bench.types["house"] = bench.types["house"], bench.types["erp"]
    outcome = await bench.run(replication(bench, {"streams": ["lake/*"]}, {"schema": "back"}))
    assert outcome.status == "failed"
    assert [one.error and one.error.code for one in outcome.destinations] == ["stream-missing"]


async def test_no_rows_where_there_were_rows_before_is_a_warning_by_the_streams_name(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await fill(erp, "a", 3)
    job = replication(bench, {}, {})
    first = good(await bench.run(job))
    await erp.execute("DELETE FROM a")
    second = good(await bench.run(next_run(job, first)))
    assert list(second.warnings) == ["public.a gave no rows; in the run before it gave 3."]
    assert [(one.source, one.stream, one.rows_before) for one in second.emptied] == [("erp/public.a", "public.a", 3)]


async def test_a_cancel_rolls_back_what_is_at_work_and_begins_nothing_more(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await fill(erp, "a", 3)
    for name in ("b_endless", "c_endless"):
        await erp.execute(f"CREATE VIEW {name} AS SELECT generate_series(1, 2000000000) AS n")
    await fill(erp, "d", 3)
    job = replication(bench, {}, {}, parallelism=2)
    async with bench.pool.take(WORKSPACE) as process:

        async def on_frame(frame: object) -> None:
            stages = {stage.stage for stage in frame.stages} if isinstance(frame, Progress) else ()
            if {"house/raw.b_endless", "house/raw.c_endless"} <= set(stages):
                await process.cancel()

        outcome = await process.run(job, on_frame)
    assert (outcome.status, outcome.error) == ("cancelled", None)
    told = {one.stream: one.status for one in outcome.destinations}
    assert told == {
        "raw.a": "succeeded",
        "raw.b_endless": "cancelled",
        "raw.c_endless": "cancelled",
        "raw.d": "cancelled",
    }
    assert await erp.fetchval("SELECT count(*) FROM raw.b_endless") == 0
    assert "d" not in await tables(erp)


async def test_what_a_killed_run_has_committed_can_be_asked_without_loading_anything(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    for table in ("a", "b"):
        await fill(erp, table, 3)
    job = replication(bench, {"read": "incremental"}, {"write": "append"}, parallelism=1)
    with pytest.raises(Transient):
        await bench.run_armed(job, "load.after_commit")
    asked = await bench.run(bench.again(job).model_copy(update={"only_ask": True}))
    assert [(one.stream, one.status) for one in asked.destinations] == [("raw.a", "succeeded"), ("raw.b", "cancelled")]
    assert asked.status == "cancelled"
    assert await tables(erp) == ["a"]
    late = await bench.run(job)
    assert [one.error and one.error.code for one in late.destinations] == [None, "lease-lost"]
