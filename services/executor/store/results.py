"""store, results: what attempts leave behind: their history and ledgers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataaggregator.contracts.ledger import Ledger
from dataaggregator.db import Connection
from services.executor.domain import End
from services.executor.store.runs import Run

LOOKED_BACK = 500
"""Among so many good runs one is looked for that was given the same parameters."""


async def last_end(tx: Connection, run: Run) -> End | None:
    """How the run's last attempt ended; None if none has."""
    found = await tx.fetchval(
        """SELECT ended FROM executor.attempts WHERE run_id = $1 AND ended IS NOT NULL
           ORDER BY lease_epoch DESC LIMIT 1""",
        run.run_id,
    )
    return None if found is None else End(found)


async def find_ledger(tx: Connection, workspace: UUID, run_id: UUID) -> dict[str, Any] | None:
    """The ledger of the last attempt that left one."""
    found: dict[str, Any] | None = await tx.fetchval(
        """SELECT ledger FROM executor.attempts
           WHERE run_id = $1 AND workspace_id = $2 AND ledger IS NOT NULL
           ORDER BY lease_epoch DESC LIMIT 1""",
        run_id,
        workspace,
    )
    return found


async def save_ledger(tx: Connection, workspace: UUID, run_id: UUID, ledger: dict[str, Any]) -> None:
    """In place of the one that `find_ledger` has found; the caller holds the run's row."""
    await tx.execute(
        """UPDATE executor.attempts SET ledger = $3
           WHERE workspace_id = $2 AND (run_id, lease_epoch) = (
               SELECT run_id, lease_epoch FROM executor.attempts WHERE run_id = $1 AND ledger IS NOT NULL
               ORDER BY lease_epoch DESC LIMIT 1)""",
        run_id,
        workspace,
        ledger,
    )


async def find_last_ledger(tx: Connection, workspace: UUID, pipeline_id: UUID) -> dict[str, Any] | None:
    """That of the pipeline's last good run."""
    found: dict[str, Any] | None = await tx.fetchval(
        """SELECT a.ledger FROM executor.runs r JOIN executor.attempts a USING (run_id, lease_epoch)
           WHERE r.workspace_id = $1 AND r.pipeline_id = $2 AND r.status = 'succeeded' AND r.replay_of IS NULL
           ORDER BY r.finished_at DESC LIMIT 1""",
        workspace,
        pipeline_id,
    )
    return found


@dataclass(frozen=True)
class LastGood:
    """A run of a pipeline that succeeded: as it was asked for, and its ledger."""

    asked: dict[str, Any]
    ledger: dict[str, Any] | None


async def find_last_good(tx: Connection, run: Run, parameters: Mapping[str, Any]) -> LastGood | None:
    """The last one of the run's pipeline with these parameters among others; neither replay nor slot of a backfill."""
    row = await tx.fetchrow(
        """SELECT asked, ledger FROM (
               SELECT r.asked, a.ledger, r.finished_at
               FROM executor.runs r JOIN executor.attempts a USING (run_id, lease_epoch)
               WHERE r.workspace_id = $1 AND r.pipeline_id = $2 AND r.status = 'succeeded'
                   AND r.replay_of IS NULL AND r.backfill_id IS NULL
               ORDER BY r.finished_at DESC LIMIT $4
           ) good WHERE (asked -> 'parameters')::jsonb @> $3 ORDER BY finished_at DESC LIMIT 1""",
        run.workspace_id,
        run.pipeline_id,
        parameters,
        LOOKED_BACK,
    )
    return None if row is None else LastGood(row["asked"], row["ledger"])


async def take_turns(tx: Connection, pipelines: Sequence[UUID]) -> None:
    """One after the other of those who compare runs of these with the ones before; in the order of their ids."""
    statement = "SELECT pg_advisory_xact_lock(hashtextextended('runs compared of ' || $1, 0))"
    for pipeline in pipelines:
        await tx.execute(statement, str(pipeline))


def rows_by_source(ledger: dict[str, Any] | None) -> dict[str, int]:
    """How many rows each source gave."""
    if ledger is None:
        return {}
    return {stage.stage: stage.read for stage in Ledger.model_validate(ledger).stages if stage.kind == "source"}
