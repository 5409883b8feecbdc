"""Streams of a whole schema that are read and written otherwise than the others, each held against its source."""

import asyncpg

from dataaggregator.contracts.replicate import USUAL_CURSORS

from .conftest import Bench
from .replicating import fill, good, more, next_run, replication, same


async def test_each_stream_is_read_and_written_as_is_said_of_it(bench: Bench, erp: asyncpg.Connection) -> None:
    for table in ("orders", "events", "codes", "people"):
        await fill(erp, table, 20, key=table != "codes")
    await erp.execute("ALTER TABLE people ADD phone text; UPDATE people SET phone = '1'")
    await erp.execute("CREATE UNIQUE INDEX ON codes (note)")
    overrides = {
        "public.events": {"write": "append", "cursor_field": "id"},
        "public.codes": {"key": ["note"]},
        "public.people": {"read": "full_refresh", "write": "replace", "drop": ["phone"]},
        "public.nobody": {"read": "full_refresh"},
    }
    job = replication(bench, {"read": "incremental"}, {"write": "merge"}, overrides=overrides)
    first = good(await bench.run(job))
    assert first.warnings == ("erp has no public.nobody, of which overrides speak.",)
    assert {one.source: one.cursor["field"] for one in first.cursors} == {
        "stream:public.orders": "updated_at",
        "stream:public.events": "id",
        "stream:public.codes": "updated_at",
    }
    for table in ("orders", "events", "codes"):
        await more(erp, table, 5)
    await erp.execute("DELETE FROM people WHERE id <= 10")
    await erp.execute("UPDATE codes SET id = -1, updated_at = clock_timestamp() WHERE id = 3")
    second = good(await bench.run(next_run(job, first)))
    reads = {stage.stage: stage.read for stage in second.ledger.stages if stage.kind == "source"}
    assert reads == {"erp/public.orders": 5, "erp/public.events": 5, "erp/public.codes": 6, "erp/public.people": 10}
    for table in ("orders", "events", "codes"):
        assert await same(erp, f"public.{table}", f"raw.{table}") == 25
    columns = await erp.fetch("SELECT attname FROM pg_attribute WHERE attrelid = 'raw.people'::regclass AND attnum > 0")
    assert [row["attname"] for row in columns] == ["id", "note", "updated_at"]
    assert await erp.fetchval("SELECT count(*) FROM raw.people") == 10
    assert "erp/public.people columns[0].drop" in {stage.stage for stage in second.ledger.stages}


async def test_a_stream_without_the_field_that_is_said_of_it_fails_and_the_others_do_not(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    await fill(erp, "orders", 5)
    await fill(erp, "log", 5, cursor=False)
    overrides = {"public.log": {"cursor_field": "at"}}
    outcome = await bench.run(replication(bench, {"read": "incremental"}, {"write": "merge"}, overrides=overrides))
    told = {one.stream: one.error and one.error.code for one in outcome.destinations}
    assert (outcome.status, told) == ("failed", {"raw.log": "replicate-no-cursor", "raw.orders": None})
    whole = good(await bench.run(replication(bench, {"read": "incremental"}, {"write": "merge"}, epoch=9)))
    assert whole.warnings == (f"Read whole, for want of a cursor field ({', '.join(USUAL_CURSORS)}): public.log.",)
