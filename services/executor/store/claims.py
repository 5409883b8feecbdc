"""store, claims: runs that wait become an executor's own, in one statement with all that their attempts go on from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dataaggregator.contracts.policies import PLACES
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


LOOKED_AT = 2
"""For each run that is wanted so many are looked at: others may be claiming the same ones just now."""

# The workspaces with waiting runs, and what priorities these have, are found one after the other by the index, and of
# those that may come next only the first few runs: what a claim costs does not depend on how many wait. A run's turn is
# how many runs its workspace would have at work with it: the one that has fewest comes next, whatever the priority of
# its runs. Chosen without a lock, so that locked is only what is taken.
CLAIM = f"""
    WITH RECURSIVE waiting AS (
        (SELECT workspace_id, priority, due_at FROM executor.runs WHERE status = 'queued'
         ORDER BY workspace_id, priority, due_at LIMIT 1)
        UNION ALL
        SELECT next.workspace_id, next.priority, next.due_at FROM waiting CROSS JOIN LATERAL (
            SELECT r.workspace_id, r.priority, r.due_at FROM executor.runs r
            WHERE r.status = 'queued' AND (r.workspace_id, r.priority) > (waiting.workspace_id, waiting.priority)
            ORDER BY r.workspace_id, r.priority, r.due_at LIMIT 1
        ) next
    ), at_work AS MATERIALIZED (
        SELECT workspace_id, count(*) AS runs FROM executor.runs WHERE status = 'running' GROUP BY workspace_id
    ), urgent AS (
        SELECT DISTINCT ON (workspace_id) workspace_id, due_at FROM waiting WHERE due_at <= now()
        ORDER BY workspace_id, priority
    ), first AS MATERIALIZED (
        SELECT workspace_id, COALESCE(at_work.runs, 0) AS runs FROM urgent LEFT JOIN at_work USING (workspace_id)
        ORDER BY runs, due_at LIMIT $4 * {LOOKED_AT}
    ), chosen AS MATERIALIZED (
        SELECT run_id, runs + row_number() OVER (PARTITION BY workspace_id ORDER BY level, due_at) AS turn, due_at
        FROM first CROSS JOIN unnest($5::smallint[]) AS level CROSS JOIN LATERAL (
            SELECT r.run_id, r.due_at FROM executor.runs r
            WHERE r.status = 'queued' AND r.workspace_id = first.workspace_id AND r.priority = level
                AND r.due_at <= now()
            ORDER BY r.due_at LIMIT $4 * {LOOKED_AT}
        ) theirs
        ORDER BY turn, due_at LIMIT $4 * {LOOKED_AT}
    ), due AS MATERIALIZED (
        SELECT r.run_id FROM chosen JOIN executor.runs r USING (run_id) WHERE r.status = 'queued'
        ORDER BY chosen.turn, chosen.due_at LIMIT $4 FOR UPDATE OF r SKIP LOCKED
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
    """Take runs that are due, of the workspaces with fewest at work, of each the most urgent and oldest: a new epoch,
    a lease from the database's clock and a begun attempt for each."""
    rows = await tx.fetch(CLAIM, owner, executor, timedelta(seconds=lease_seconds), most, [*PLACES.values()])
    return [
        Claimed(
            run_of(row),
            [KnownCursor(**cursor) for cursor in row["cursors"] or ()],
            [CursorSet(**cursor) for cursor in row["set_by_hand"] or ()],
            row["last_ledger"],
        )
        for row in rows
    ]
