"""What the control plane leaves behind: I5 one row a slot, I7 no stuck run, and mirrors that show what they mirror."""

import asyncio
import time
from typing import TypeAlias

import asyncpg

ENDED_WITHIN_SECONDS = 90.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SCHEDULED = ["cron", "every", "after", "webhook", "files"]

# What one service knows of another by events, beside the truth: (what, mirror, truth).
MIRRORS = (
    (
        "runs of the scheduler and of the executor",
        "SELECT id, status FROM scheduler.runs WHERE handed_over_at IS NOT NULL",
        "SELECT run_id, status FROM executor.runs",
    ),
    (
        "connectors as the scheduler knows them",
        "SELECT id, name, type FROM scheduler.connectors",
        "SELECT id, name, type FROM connectors.connectors",
    ),
    (
        "uses as the connectors know them",
        "SELECT pipeline_id, connector_id FROM connectors.uses",
        "SELECT DISTINCT pipeline_id, connector_id FROM scheduler.connector_uses",
    ),
)


async def check_slots(connection: Connection) -> None:
    """I5: each slot was decided once; a fired one has a run of its own, and no run by schedule is without a slot."""
    wrong = await connection.fetch(
        """SELECT run_id, trigger, count(slot_at) AS slots
           FROM (SELECT run_id, slot_at FROM scheduler.slots WHERE run_id IS NOT NULL) slots
           FULL JOIN (SELECT id AS run_id, trigger FROM scheduler.runs) runs USING (run_id)
           GROUP BY run_id, trigger
           HAVING trigger IS NULL OR count(slot_at) <> (trigger = ANY($1))::int""",
        SCHEDULED,
    )
    assert not wrong, f"I5: slots and runs do not match: {[dict(row) for row in wrong[:5]]}"
    undecided = await connection.fetch(
        """SELECT s.id, s.last_slot_at FROM scheduler.schedules s
           WHERE s.last_slot_at IS NOT NULL AND NOT EXISTS (
               SELECT FROM scheduler.slots t WHERE t.schedule_id = s.id AND t.slot_at = s.last_slot_at)"""
    )
    assert not undecided, f"I5: passed without a decision: {[dict(row) for row in undecided[:5]]}"


async def check_runs_end(connection: Connection, within_seconds: float = ENDED_WITHIN_SECONDS) -> None:
    """I7: every run has ended, or does so within the bound; it is only looked at, never helped."""
    deadline = time.monotonic() + within_seconds
    while True:
        stuck = await connection.fetch(
            """SELECT 'scheduler' AS service, id, status FROM scheduler.runs WHERE finished_at IS NULL
               UNION ALL SELECT 'executor', run_id, status FROM executor.runs WHERE finished_at IS NULL"""
        )
        if not stuck:
            return
        assert time.monotonic() < deadline, f"I7: stuck: {[dict(row) for row in stuck[:5]]}"
        await asyncio.sleep(0.1)


async def check_mirrors(connection: Connection) -> None:
    """I3, seen by its effects: what a service was told by events is what is so."""
    for what, mirror, truth in MIRRORS:
        differ = await connection.fetch(f"(({mirror}) EXCEPT ({truth})) UNION ALL (({truth}) EXCEPT ({mirror}))")
        assert not differ, f"I3: {what} differ: {[dict(row) for row in differ[:5]]}"
