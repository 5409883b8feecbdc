"""store, claims: runs that wait become an executor's own, in one statement with all that their attempts go on from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from asyncpg import Record

from dataaggregator.dataplane.job import CursorSet, KnownCursor
from dataaggregator.db import Connection
from services.executor.store import lanes
from services.executor.store.cursors import SET_CURSORS
from services.executor.store.lanes import OPEN, Stuck
from services.executor.store.runs import COLUMNS, Run, run_of
from services.executor.store.waiting import GROUPS


@dataclass(frozen=True)
class Claimed:
    """A run that is its claimer's, with where its pipeline's destinations stand."""

    run: Run
    cursors: Sequence[KnownCursor]
    set_by_hand: Sequence[CursorSet]
    last_ledger: dict[str, Any] | None
    """Of the last good run of the pipeline: zero rows where there were rows before is a warning."""
    rows_before: Mapping[str, int] = field(default_factory=dict)
    """Of sources that parameters name: as the last good run that read the same says, 0 where there is none."""


@dataclass(frozen=True)
class Claimer:
    """Who takes runs: `owner` is its process, `executor` its name; it takes those that ask for none but its labels."""

    owner: dict[str, Any]
    executor: str
    lease_seconds: float
    labels: Sequence[str] = ()


LOOKED_AT = 2
"""For each run that is wanted so many are looked at: others may be claiming the same ones just now."""

TRIES = 3
"""So often a claim goes on behind runs that have to wait for a lane."""

# The groups of waiting runs are found one after the other by the index, and of those that may come next only the first
# few runs: what a claim costs does not depend on how many wait. A run's turn is how many runs its workspace would have
# at work with it: the one that has fewest comes next, whatever the priority of its runs. Chosen without a lock, so that
# locked is only what is taken.
#
# What has a limit has a row for each lane. Of those it needs a run takes one each, or begins not at all; a lane that
# another is taking just now is passed by, so that claims never wait for each other. One that only asks its destinations
# how it has ended needs none.
CLAIM = f"""
    WITH RECURSIVE {GROUPS}, at_work AS MATERIALIZED (
        SELECT workspace_id, count(*) AS runs FROM executor.runs WHERE status = 'running' GROUP BY workspace_id
    ), fitting AS MATERIALIZED (
        SELECT * FROM waiting WHERE due_at <= now() AND runs_on <@ $5::text[]
    ), urgent AS (
        SELECT DISTINCT ON (workspace_id) workspace_id, due_at FROM fitting ORDER BY workspace_id, priority, due_at
    ), first AS MATERIALIZED (
        SELECT workspace_id, COALESCE(at_work.runs, 0) AS runs FROM urgent LEFT JOIN at_work USING (workspace_id)
        ORDER BY runs, due_at LIMIT $4 * {LOOKED_AT}
    ), chosen AS MATERIALIZED (
        SELECT run_id, theirs.due_at, runs + row_number() OVER (
            PARTITION BY workspace_id ORDER BY fitting.priority, theirs.due_at) AS turn
        FROM first JOIN fitting USING (workspace_id) CROSS JOIN LATERAL (
            SELECT r.run_id, r.due_at FROM executor.runs r
            WHERE r.status = 'queued' AND r.waits_for IS NULL AND r.workspace_id = fitting.workspace_id
                AND r.priority = fitting.priority AND r.runs_on = fitting.runs_on AND r.due_at <= now()
            ORDER BY r.workspace_id, r.priority, r.runs_on, r.due_at LIMIT $4 * {LOOKED_AT}
        ) theirs
        ORDER BY turn, due_at LIMIT $4 * {LOOKED_AT}
    ), due AS MATERIALIZED (
        SELECT r.run_id, chosen.turn, chosen.due_at, CASE WHEN r.ending IS NULL THEN r.needs END AS needs
        FROM chosen JOIN executor.runs r USING (run_id) WHERE r.status = 'queued'
        ORDER BY chosen.turn, chosen.due_at LIMIT $4 FOR UPDATE OF r SKIP LOCKED
    ), wanted AS MATERIALIZED (
        SELECT run_id, holder, row_number() OVER (PARTITION BY holder ORDER BY turn, due_at, run_id) AS place
        FROM due CROSS JOIN LATERAL unnest(needs) AS need (holder) JOIN executor.limits USING (holder)
        WHERE limits.most IS NOT NULL
    ), open AS MATERIALIZED (
        SELECT holder, lane, row_number() OVER (PARTITION BY holder ORDER BY lane) AS place
        FROM (SELECT holder, count(*) AS lanes FROM wanted GROUP BY holder) asked CROSS JOIN LATERAL (
            SELECT l.lane FROM executor.lanes l WHERE l.holder = asked.holder AND {OPEN}
            ORDER BY l.lane LIMIT asked.lanes FOR UPDATE OF l SKIP LOCKED
        ) theirs
    ), fit AS MATERIALIZED (
        SELECT run_id FROM due WHERE NOT EXISTS (
            SELECT FROM wanted LEFT JOIN open USING (holder, place) WHERE wanted.run_id = due.run_id AND lane IS NULL)
    ), taken AS (
        UPDATE executor.lanes l SET run_id = fit.run_id
        FROM fit JOIN wanted USING (run_id) JOIN open USING (holder, place)
        WHERE l.holder = open.holder AND l.lane = open.lane AND l.run_id IS NULL
    ), stuck AS (
        SELECT wanted.run_id, min(holder::text)::uuid AS holder FROM wanted
        WHERE NOT EXISTS (SELECT FROM executor.lanes l WHERE l.holder = wanted.holder AND {OPEN})
        GROUP BY wanted.run_id
    ), claimed AS (
        UPDATE executor.runs r SET status = 'running', owner = $1, process = NULL, waits_for = NULL,
            lease_epoch = nextval('executor.lease_epochs'), lease_until = now() + $3::interval,
            attempt_started_at = now(), started_at = COALESCE(started_at, now())
        FROM fit WHERE r.run_id = fit.run_id AND r.status = 'queued'
        RETURNING {", ".join(f"r.{name.strip()}" for name in COLUMNS.split(","))}
    ), begun AS (
        INSERT INTO executor.attempts (run_id, workspace_id, lease_epoch, number, executor, started_at)
        SELECT run_id, workspace_id, lease_epoch, attempt, $2, attempt_started_at FROM claimed
    )
    SELECT seen.*, claimed.*,
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
    FROM (SELECT (SELECT count(*) FROM due) AS looked_at, array_agg(run_id) AS stuck_runs,
              array_agg(holder) AS stuck_holders FROM stuck) seen LEFT JOIN claimed ON true"""


async def claim(tx: Connection, claimer: Claimer, most: int) -> list[Claimed]:
    """Take runs that are due, of the workspaces with fewest at work, of each the most urgent and oldest: a new epoch,
    a lease from the database's clock and a begun attempt for each.

    Runs that have to wait for a lane are put aside, and those behind them come next: many at once only where no run
    that was claimed has to wait for it.
    """
    claimed: list[Claimed] = []
    for _ in range(TRIES):
        seen, taken = await _try(tx, claimer, most - len(claimed))
        claimed += taken
        if len(taken) == seen.looked_at or len(claimed) == most:
            break
        front = lanes.FRONT if claimed else lanes.FRONT_WHERE_NONE_BEGINS
        put_aside = await lanes.park(tx, seen.stuck, front) if seen.stuck.runs else 0
        if put_aside:
            await lanes.unpark(tx)
        elif not taken:
            break
    return claimed


@dataclass(frozen=True)
class _Seen:
    """How many runs a try had before it, and those of them that it had to leave."""

    looked_at: int
    stuck: Stuck


async def _try(tx: Connection, claimer: Claimer, most: int) -> tuple[_Seen, list[Claimed]]:
    lease = timedelta(seconds=claimer.lease_seconds)
    rows = await tx.fetch(CLAIM, claimer.owner, claimer.executor, lease, most, list(claimer.labels))
    stuck = Stuck(rows[0]["stuck_runs"] or (), rows[0]["stuck_holders"] or ())
    return _Seen(rows[0]["looked_at"], stuck), [_claimed(row) for row in rows if row["run_id"] is not None]


def _claimed(row: Record) -> Claimed:
    return Claimed(
        run_of(row),
        [KnownCursor(**cursor) for cursor in row["cursors"] or ()],
        [CursorSet(**cursor) for cursor in row["set_by_hand"] or ()],
        row["last_ledger"],
    )
