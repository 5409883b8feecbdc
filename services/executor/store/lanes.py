"""store, lanes: how many runs may be at work at once with a connector, or of a workspace; who holds which lane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from dataaggregator.db import Connection

# While one of the lanes beyond a limit that was lowered is held, nobody takes another.
OPEN = """run_id IS NULL
    AND NOT EXISTS (SELECT FROM executor.lanes late WHERE late.holder = l.holder AND late.beyond)"""

FRONT = 200
"""Of what waits in a workspace so many are looked through for runs that wait for the same lane."""

FRONT_WHERE_NONE_BEGINS = 5_000
"""The same in a look that has claimed nothing so far: nobody waits for its end."""

# Each row by its key: of a queue that has just come the planner knows nothing, and would go through it for each run.
PARK = f"""
    WITH full_now AS MATERIALIZED (
        SELECT holder, workspace_id FROM executor.limits WHERE holder = ANY($2::uuid[]) AND NOT EXISTS (
            SELECT FROM executor.lanes l WHERE l.holder = limits.holder AND {OPEN})
    ), alike AS (
        SELECT first.run_id, full_now.holder FROM full_now CROSS JOIN LATERAL (
            SELECT run_id, needs, ending FROM executor.runs r
            WHERE r.status = 'queued' AND r.waits_for IS NULL AND r.workspace_id = full_now.workspace_id
            ORDER BY r.workspace_id, r.priority, r.runs_on, r.due_at LIMIT $3
        ) first WHERE full_now.holder = ANY(first.needs) AND first.ending IS NULL
        UNION
        SELECT run_id, holder FROM unnest($1::uuid[], $2::uuid[]) AS stuck (run_id, holder) JOIN full_now USING (holder)
    ), mine AS MATERIALIZED (
        SELECT alike.run_id, alike.holder FROM alike CROSS JOIN LATERAL (
            SELECT status, waits_for, due_at FROM executor.runs r WHERE r.run_id = alike.run_id
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) now WHERE status = 'queued' AND waits_for IS NULL AND due_at <= now()
    )
    UPDATE executor.runs r SET waits_for = mine.holder FROM mine WHERE r.run_id = mine.run_id"""


@dataclass(frozen=True)
class Limit:
    """`holder` is the id of a connector or of a workspace; `most` None means that it has no limit.

    `asked` is what its owner wishes, `told` the place of the event that said so.
    """

    holder: UUID
    workspace_id: UUID
    kind: Literal["connector", "workspace"]
    name: str
    asked: int | None
    most: int | None
    told: int = 0


@dataclass(frozen=True)
class Stuck:
    """Runs that a claim had to leave, each with one of its holders that has no lane open."""

    runs: Sequence[UUID]
    holders: Sequence[UUID]


async def find_limit(tx: Connection, holder: UUID) -> Limit | None:
    row = await tx.fetchrow(
        "SELECT holder, workspace_id, kind, name, asked, most, told FROM executor.limits WHERE holder = $1", holder
    )
    return None if row is None else Limit(**row)


async def list_workspaces(tx: Connection) -> list[Limit]:
    """Of every workspace that has one, or that has runs at work or waiting."""
    rows = await tx.fetch(
        """SELECT holder, workspace_id, kind, name, asked, most, told FROM executor.limits WHERE kind = 'workspace'
           UNION ALL
           SELECT DISTINCT workspace_id, workspace_id, 'workspace', '', NULL::int, NULL::int, 0 FROM executor.runs r
           WHERE status IN ('queued', 'running') AND NOT EXISTS (
               SELECT FROM executor.limits l WHERE l.holder = r.workspace_id)"""
    )
    return [Limit(**row) for row in rows]


async def list_late(tx: Connection) -> list[Limit]:
    """Those with a run in a lane beyond them while one within is free."""
    rows = await tx.fetch(
        """SELECT holder, workspace_id, kind, name, asked, most, told FROM executor.limits
           WHERE holder IN (SELECT holder FROM executor.lanes WHERE beyond)
               AND holder IN (SELECT holder FROM executor.lanes WHERE run_id IS NULL) ORDER BY holder"""
    )
    return [Limit(**row) for row in rows]


async def take_turn(tx: Connection) -> None:
    """Let one transaction at a time change limits: before it reads them, for it may have to hold claims back."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('executor.limits', 0))")


async def hold_claims(tx: Connection) -> None:
    """Let no run be claimed until this transaction has ended: every claim reads this table, and begins to after it."""
    await tx.execute("LOCK TABLE executor.limits IN ACCESS EXCLUSIVE MODE")


async def save_limit(tx: Connection, limit: Limit) -> None:
    await tx.execute(
        """INSERT INTO executor.limits (holder, workspace_id, kind, name, asked, most, told)
           VALUES ($1, $2, $3, $4, $5, $6, $7)
           ON CONFLICT (holder) DO UPDATE SET name = excluded.name, asked = excluded.asked, most = excluded.most,
               told = excluded.told""",
        limit.holder,
        limit.workspace_id,
        limit.kind,
        limit.name,
        limit.asked,
        limit.most,
        limit.told,
    )


async def remove_limit(tx: Connection, holder: UUID) -> None:
    await tx.execute("DELETE FROM executor.limits WHERE holder = $1", holder)


async def lay(tx: Connection, limit: Limit) -> None:
    """Its lanes anew, with those who are at work in them; the caller holds claims back.

    None of them can end meanwhile: their rows are locked, and an end lets go of what is there behind that lock.
    """
    at_work = await tx.fetch(
        """SELECT run_id FROM executor.runs WHERE status = 'running' AND $1 = ANY(needs) AND ending IS NULL
           ORDER BY run_id FOR UPDATE""",
        limit.holder,
    )
    await tx.execute("DELETE FROM executor.lanes WHERE holder = $1", limit.holder)
    if limit.most is not None:
        await tx.execute(
            """INSERT INTO executor.lanes (holder, lane, workspace_id, run_id, beyond)
               SELECT $1, lane, $2, ($3::uuid[])[lane], lane > $4
               FROM generate_series(1, greatest($4, cardinality($3::uuid[]))) AS lane""",
            limit.holder,
            limit.workspace_id,
            [row["run_id"] for row in at_work],
            limit.most,
        )


async def unpark_all(tx: Connection, holder: UUID) -> None:
    """Let every run that waits for a lane of it be looked at again."""
    await tx.execute("UPDATE executor.runs SET waits_for = NULL WHERE status = 'queued' AND waits_for = $1", holder)


async def park(tx: Connection, stuck: Stuck, front: int = FRONT) -> int:
    """Put these runs aside, and others among the first so many of their queues that need the same; a lane that is let
    go brings them back. The answer is how many."""
    done = await tx.execute(PARK, stuck.runs, stuck.holders, front)
    return int(done.rpartition(" ")[2])


async def unpark(tx: Connection) -> int:
    """Bring back as many as there are lanes open, the most urgent and oldest first; the answer is how many."""
    done = await tx.execute(
        f"""WITH free AS (
               SELECT holder, count(*) AS lanes FROM executor.lanes l WHERE {OPEN} GROUP BY holder
           ), next AS (
               SELECT theirs.run_id FROM free CROSS JOIN LATERAL (
                   SELECT run_id FROM executor.runs WHERE status = 'queued' AND waits_for = free.holder
                   ORDER BY priority, due_at LIMIT free.lanes FOR UPDATE SKIP LOCKED
               ) theirs
           )
           UPDATE executor.runs r SET waits_for = NULL FROM next WHERE r.run_id = next.run_id"""
    )
    return int(done.rpartition(" ")[2])
