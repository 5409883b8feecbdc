"""store, claims: runs that wait become an executor's own, in one statement with all that their attempts go on from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dataaggregator.dataplane.job import CursorSet, KnownCursor
from dataaggregator.db import Connection
from services.executor.store.cursors import SET_CURSORS
from services.executor.store.runs import COLUMNS, Run, run_of


@dataclass(frozen=True)
class Claimed:
    """A run that is its claimer's, with where its pipeline's destinations stand."""

    run: Run
    cursors: Sequence[KnownCursor]
    set_by_hand: Sequence[CursorSet]
    last_ledger: dict[str, Any] | None
    """Of the last good run of the pipeline: zero rows where there were rows before is a warning."""


_CLAIM = f"""
    WITH due AS MATERIALIZED (
        SELECT run_id FROM executor.runs WHERE status = 'queued' AND due_at <= now()
        ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE executor.runs r SET status = 'running', owner = $1, process = NULL,
            lease_epoch = nextval('executor.lease_epochs'), lease_until = now() + $3::interval,
            attempt_started_at = now(), started_at = COALESCE(started_at, now())
        FROM due WHERE r.run_id = due.run_id AND r.status = 'queued'
        RETURNING {", ".join(f"r.{name.strip()}" for name in COLUMNS.split(","))}
    ), begun AS (
        INSERT INTO executor.attempts (run_id, workspace_id, lease_epoch, number, executor, started_at)
        SELECT run_id, workspace_id, lease_epoch, attempt, $2, attempt_started_at FROM claimed
    )
    SELECT claimed.*,
        (SELECT json_agg(json_build_object('source', c.source_stream, 'destination', c.destination,
                                           'cursor', c.cursor, 'epoch', c.lease_epoch)
                         ORDER BY c.source_stream, c.destination)
         FROM executor.cursors c WHERE c.pipeline_id = claimed.pipeline_id) AS cursors,
        (SELECT json_agg({SET_CURSORS}) FROM executor.set_cursors s WHERE s.pipeline_id = claimed.pipeline_id)
            AS set_by_hand,
        (SELECT a.ledger FROM executor.runs r JOIN executor.attempts a USING (run_id, lease_epoch)
         WHERE r.pipeline_id = claimed.pipeline_id AND r.status = 'succeeded'
             AND r.replay_of IS NULL AND r.backfill_id IS NULL
         ORDER BY r.finished_at DESC LIMIT 1) AS last_ledger
    FROM claimed"""


async def claim(tx: Connection, owner: dict[str, Any], executor: str, lease_seconds: float, most: int) -> list[Claimed]:
    """Take the runs that waited longest: each a new epoch, a lease from the database's clock, and its attempt begun."""
    rows = await tx.fetch(_CLAIM, owner, executor, timedelta(seconds=lease_seconds), most)
    return [
        Claimed(
            run_of(row),
            [KnownCursor(**cursor) for cursor in row["cursors"] or ()],
            [CursorSet(**cursor) for cursor in row["set_by_hand"] or ()],
            row["last_ledger"],
        )
        for row in rows
    ]
