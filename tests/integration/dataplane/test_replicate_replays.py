"""Rows that the destination of a whole schema set aside, replayed by a process that dies: in their stream, once."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataaggregator.dataplane.job import ReplayedRows, RunJob, RunOutcome
from dataaggregator.dataplane.replicating.replaying import replayed_stream
from dataaggregator.errors import Transient
from tests.integration.dataplane.conftest import Bench
from tests.integration.dataplane.replicating import fill, good, replication, same

LIMITED = {"write": "append", "schema_policy": "discard_row", "chunk_rows": 40}


async def set_aside(bench: Bench, erp: asyncpg.Connection) -> tuple[RunJob, RunOutcome]:
    """Of either stream the first ten rows of a hundred have a note, which is no column there."""
    await erp.execute("CREATE SCHEMA raw")
    for table in ("orders", "returns"):
        await fill(erp, table, 100)
        await erp.execute(f"UPDATE {table} SET note = NULL WHERE id > 10")
        await erp.execute(f"CREATE TABLE raw.{table} (id bigint, updated_at timestamptz)")
    job = replication(bench, {"read": "incremental"}, LIMITED)
    outcome = good(await bench.run(job))
    assert outcome.counts.rows_rejected == 20
    return job, outcome


def replay(job: RunJob, outcome: RunOutcome, table: str, *earlier: UUID) -> RunJob:
    """Of the rows of one stream, by the pipeline that adds the column."""
    entries = [entry for entry in outcome.quarantine if entry.stage == f"house/raw.{table}"]
    files = tuple(entry.file for entry in entries)
    replicate = job.definition.replicate
    assert replicate is not None
    to = replicate.to.model_copy(update={"schema_policy": "evolve"})
    after = job.definition.model_copy(update={"replicate": replicate.model_copy(update={"to": to})})
    kind: Any = pq.read_schema(Path(job.folder, files[0])).field("row").type
    of = entries[0].replicated
    assert of is not None
    made = replayed_stream(after, of, pa.schema(list(kind)), f"house/raw.{table}")
    rows = ReplayedRows(
        source=made.source, transformation=made.entry.transformation, first=made.entry.first, folder=job.folder,
        files=files, rows=sum(entry.count for entry in entries), earlier=earlier,
    )  # fmt: skip
    run = uuid4()
    changes = {"run_id": run, "folder": str(Path(job.folder).parent / str(run)), "epoch": job.epoch + 10}
    return job.model_copy(update={**changes, "attempt": 1, "definition": made.definition, "replay": rows})


@pytest.mark.parametrize("failpoint", ["load.before_commit", "load.after_commit", "run.before_outcome"])
async def test_a_replay_that_dies_around_its_commit_is_ended_by_the_next_attempt(
    bench: Bench, erp: asyncpg.Connection, failpoint: str
) -> None:
    job, outcome = await set_aside(bench, erp)
    dying = replay(job, outcome, "orders")
    with pytest.raises(Transient, match="ended in the middle"):
        await bench.run_armed(dying, failpoint)
    again = good(await bench.run(bench.again(dying)))
    assert [one.stream for one in again.destinations] == ["raw.orders"]
    assert (again.counts.rows_read, again.counts.rows_written) == (10, 10)
    assert await same(erp, "(SELECT id, updated_at, note FROM orders)", "raw.orders") == 100
    assert await erp.fetchval("SELECT count(*) FROM raw.returns") == 90


async def test_what_a_replay_committed_unseen_is_known_to_the_one_after_it_and_to_no_other_stream(
    bench: Bench, erp: asyncpg.Connection
) -> None:
    job, outcome = await set_aside(bench, erp)
    lost = replay(job, outcome, "orders")
    with pytest.raises(Transient, match="ended in the middle"):
        await bench.run_armed(lost, "load.after_commit")
    for table in ("orders", "returns"):
        good(await bench.run(replay(job, outcome, table, lost.run_id)))
        assert await same(erp, f"(SELECT id, updated_at, note FROM {table})", f"raw.{table}") == 100
