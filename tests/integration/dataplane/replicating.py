"""What the tests of replication share: jobs that replicate, tables that are filled, and both ends compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.job import JobSettings, RunJob, RunOutcome

from .conftest import MASK_KEY, WORKSPACE, Bench


def replication(bench: Bench, came: Mapping[str, Any], to: Mapping[str, Any], **more: Any) -> RunJob:
    """A job that replicates; what the definition does not have goes to the job."""
    fields = ("parallelism", "on_new", "on_vanished", "overrides")
    replicate = {name: more.pop(name) for name in fields if name in more}
    replicate |= {
        "from": bench._resolved({"connector": "erp", "streams": ["public.*"], **came}),
        "to": bench._resolved({"connector": "house", "schema": "raw", **to}),
    }
    run = uuid4()
    given = {"run_id": run, "pipeline_id": uuid4(), "epoch": 1, "folder": str(bench.folder / str(run))} | more
    given.setdefault("kept", str(bench.folder / "kept"))
    return RunJob(
        workspace_id=WORKSPACE,
        mask_key=MASK_KEY,
        definition=ResolvedPipeline.model_validate({"name": "all", "replicate": replicate}),
        connectors=bench.connectors,
        settings=JobSettings(egress_private=True, allowed_roots=(str(bench.folder),)),
        **given,
    )


def next_run(job: RunJob, before: RunOutcome, **more: Any) -> RunJob:
    """The pipeline's next run, told what the last good one read."""
    run = uuid4()
    rows = {stage.stage: stage.read for stage in before.ledger.stages if stage.kind == "source"}
    folder = str(Path(job.folder).parent / str(run))
    changes = {"run_id": run, "epoch": job.epoch + 10, "attempt": 1, "folder": folder, "previous_rows": rows}
    return job.model_copy(update=changes | more)


async def fill(erp: asyncpg.Connection, table: str, rows: int, *, key: bool = True, cursor: bool = True) -> None:
    columns = f"id bigint {'PRIMARY KEY' if key else ''}, note text"
    columns += ", updated_at timestamptz NOT NULL DEFAULT clock_timestamp()" if cursor else ""
    await erp.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
    await more(erp, table, rows)


async def more(erp: asyncpg.Connection, table: str, rows: int) -> None:
    await erp.execute(
        f"INSERT INTO {table} (id, note) SELECT n, '{table.replace(chr(39), '')} ' || n FROM generate_series("
        f"(SELECT coalesce(max(id), 0) + 1 FROM {table}), (SELECT coalesce(max(id), 0) + $1 FROM {table})) n",
        rows,
    )


async def same(erp: asyncpg.Connection, source: str, target: str) -> int:
    """How many rows both have; each row of the one has to be in the other, and as often."""
    rows = [await erp.fetch(f"SELECT t::text AS row FROM {table} t ORDER BY 1") for table in (source, target)]
    assert rows[0] == rows[1], f"{source} and {target} differ"
    return len(rows[0])


async def tables(erp: asyncpg.Connection, schema: str = "raw") -> list[str]:
    found = await erp.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema)
    return [row[0] for row in found]


def good(outcome: RunOutcome) -> RunOutcome:
    assert (outcome.status, outcome.ledger.violations) == ("succeeded", ()), outcome.error
    assert outcome.ledger.balanced
    assert all(one.receipt is not None and one.receipt.verified for one in outcome.destinations)
    return outcome
