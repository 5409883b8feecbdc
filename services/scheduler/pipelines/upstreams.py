"""Pipelines, upstreams: all SQL of the pipelines that others come after (`after` triggers), and of what ended there."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from dataaggregator.db import Connection
from services.scheduler.runs.domain import Run

UNCOUNTED = ("replay", "backfill")
"""Runs by these triggers bring what earlier runs left, or a part of a period; nobody waits for them."""


async def hold(tx: Connection, workspace: UUID) -> None:
    """One at a time: two definitions saved at once could otherwise each be the end of the other's circle.

    Before a pipeline is locked, for those that it comes after are locked behind it.
    """
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('upstreams ' || $1, 0))", str(workspace))


async def named(
    tx: Connection, workspace: UUID, written: Collection[str], pipeline: UUID | None = None
) -> dict[str, UUID]:
    """What these names or ids stand for; an old name is still understood in the pipeline that was saved with it.

    None of them can be deleted before the caller's transaction has ended.
    """
    statement = """
        SELECT w.written, p.id
        FROM unnest($2::text[]) AS w (written)
        LEFT JOIN LATERAL (
            SELECT u.pipeline_id FROM scheduler.upstreams u JOIN scheduler.schedules s ON s.id = u.schedule_id
            WHERE s.pipeline_id = $3 AND u.written = w.written LIMIT 1) old ON true
        JOIN scheduler.pipelines p ON p.workspace_id = $1
            AND (w.written IN (p.name, p.id::text) OR p.id = old.pipeline_id)
        ORDER BY (w.written IN (p.name, p.id::text))
        FOR SHARE OF p"""
    return {row["written"]: row["id"] for row in await tx.fetch(statement, workspace, list(written), pipeline)}


async def names_now(tx: Connection, workspace: UUID, pipelines: Collection[UUID]) -> dict[UUID, dict[str, str]]:
    """By pipeline: what those that it comes after were called when it was saved → what they are called now."""
    statement = """
        SELECT s.pipeline_id, u.written, p.name FROM scheduler.upstreams u
        JOIN scheduler.schedules s ON s.id = u.schedule_id AND s.retired_at IS NULL
        JOIN scheduler.pipelines p ON p.id = u.pipeline_id
        WHERE u.workspace_id = $1 AND s.pipeline_id = ANY($2)"""
    found: dict[UUID, dict[str, str]] = defaultdict(dict)
    for row in await tx.fetch(statement, workspace, list(pipelines)):
        found[row["pipeline_id"]][row["written"]] = row["name"]
    return found


async def leads_to(tx: Connection, workspace: UUID, start: Collection[UUID], goal: UUID) -> bool:
    """Whether one of these pipelines is the goal, or comes after it."""
    statement = """
        WITH RECURSIVE before (pipeline_id) AS (
            SELECT unnest($2::uuid[])
            UNION
            SELECT u.pipeline_id FROM before b
            JOIN scheduler.schedules s ON s.pipeline_id = b.pipeline_id AND s.retired_at IS NULL
            JOIN scheduler.upstreams u ON u.schedule_id = s.id AND u.workspace_id = $1)
        SELECT EXISTS (SELECT FROM before WHERE pipeline_id = $3)"""
    return bool(await tx.fetchval(statement, workspace, list(start), goal))


async def users(tx: Connection, workspace: UUID, pipeline: UUID) -> Sequence[str]:
    """The names of the pipelines that come after it."""
    statement = """
        SELECT DISTINCT p.name FROM scheduler.upstreams u
        JOIN scheduler.schedules s ON s.id = u.schedule_id JOIN scheduler.pipelines p ON p.id = s.pipeline_id
        WHERE u.workspace_id = $1 AND u.pipeline_id = $2 AND p.id <> $2 ORDER BY p.name"""
    return [row["name"] for row in await tx.fetch(statement, workspace, pipeline)]


async def forget_retired(tx: Connection, pipeline: UUID) -> None:
    """Triggers that are no longer there wait for nobody."""
    await tx.execute(
        """DELETE FROM scheduler.upstreams u USING scheduler.schedules s
        WHERE s.id = u.schedule_id AND s.pipeline_id = $1 AND s.retired_at IS NOT NULL""",
        pipeline,
    )


async def set_awaited(
    tx: Connection, workspace: UUID, schedule: UUID, awaited: str, others: Mapping[str, UUID]
) -> None:
    """What has ended since the schedule fired last is still known."""
    await tx.executemany(
        """INSERT INTO scheduler.upstreams (schedule_id, workspace_id, pipeline_id, written, awaited)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (schedule_id, pipeline_id) DO NOTHING""",
        [(schedule, workspace, id_, written, awaited) for written, id_ in others.items()],
    )


async def ended(tx: Connection, workspace: UUID, runs: Sequence[Run]) -> None:
    """What waited for these runs is due once nothing else is missing.

    The schedules are locked first: of two ends told at once the second sees the first one's.
    """
    counted = [run for run in runs if run.asked.trigger not in UNCOUNTED]
    waiting = """
        SELECT s.id FROM scheduler.schedules s WHERE s.retired_at IS NULL AND s.id IN (
            SELECT u.schedule_id FROM scheduler.upstreams u JOIN unnest($2::uuid[], $3::text[]) AS e (id, status)
                ON u.pipeline_id = e.id AND u.awaited IN ('ended', e.status)
            WHERE u.workspace_id = $1)
        ORDER BY s.id FOR UPDATE"""
    told = ([run.pipeline_id for run in counted], [run.status.value for run in counted])
    found = [row["id"] for row in await tx.fetch(waiting, workspace, *told)] if counted else []
    if not found:
        return
    await tx.execute(
        """UPDATE scheduler.upstreams u SET run_id = e.run_id
        FROM unnest($2::uuid[], $3::text[], $4::uuid[]) AS e (id, status, run_id)
        WHERE u.schedule_id = ANY($1) AND u.pipeline_id = e.id AND u.awaited IN ('ended', e.status)""",
        found, *told, [run.id for run in counted],
    )  # fmt: skip
    await tx.execute(
        """UPDATE scheduler.schedules s
        SET next_slot_at = greatest(clock_timestamp(), last_slot_at + interval '1 microsecond')
        WHERE s.id = ANY($1) AND s.next_slot_at IS NULL
            AND NOT EXISTS (SELECT FROM scheduler.upstreams u WHERE u.schedule_id = s.id AND u.run_id IS NULL)""",
        found,
    )


async def begin_anew(tx: Connection, schedule: UUID) -> None:
    """The schedule, locked, was decided on: from now each of its pipelines is waited for again."""
    await tx.execute("UPDATE scheduler.upstreams SET run_id = NULL WHERE schedule_id = $1", schedule)
