"""Pipelines, watch: all SQL of when pipelines should have succeeded, and of those that are late."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dataaggregator.db import Connection
from services.scheduler.pipelines import store
from services.scheduler.pipelines.domain import Pipeline
from services.scheduler.pipelines.lateness import Success
from services.scheduler.pipelines.upstreams import UNCOUNTED


@dataclass(frozen=True)
class Watched:
    """A locked pipeline, its last success, and the time it is judged at."""

    pipeline: Pipeline
    last: Success | None
    now: datetime


async def claim(tx: Connection, most: int) -> Sequence[Watched]:
    """Those whose time is over, and those that something has happened to since they were judged."""
    rows = await tx.fetch(
        """
        SELECT p.*, clock_timestamp() AS judged_at, r.queued_at AS asked_at, r.finished_at AS succeeded_at
        FROM scheduler.pipelines p LEFT JOIN LATERAL (
            SELECT queued_at, finished_at FROM scheduler.runs
            WHERE pipeline_id = p.id AND status = 'succeeded' AND trigger <> ALL($2) AND backfill_id IS NULL
            ORDER BY queued_at DESC, id DESC LIMIT 1
        ) r ON true
        WHERE NOT p.watched OR p.late_since IS NULL AND p.expected_by <= now()
        ORDER BY p.id LIMIT $1 FOR UPDATE OF p SKIP LOCKED""",
        most,
        list(UNCOUNTED),
    )
    return [
        Watched(
            store.pipeline_of(row),
            None if row["succeeded_at"] is None else Success(row["asked_at"], row["succeeded_at"]),
            row["judged_at"],
        )
        for row in rows
    ]


async def save(tx: Connection, pipeline: UUID, expected_by: datetime | None, late_since: datetime | None) -> None:
    statement = "UPDATE scheduler.pipelines SET watched = true, expected_by = $2, late_since = $3 WHERE id = $1"
    await tx.execute(statement, pipeline, expected_by, late_since)


async def look_again(tx: Connection, workspace: UUID, pipelines: Sequence[UUID]) -> None:
    """Runs of these have succeeded; those that no clock watches are left alone."""
    await tx.execute(
        """UPDATE scheduler.pipelines SET watched = false
        WHERE workspace_id = $1 AND id = ANY($2) AND watched AND (expected_by IS NOT NULL OR late_since IS NOT NULL)""",
        workspace,
        pipelines,
    )


async def count_late(connection: Connection) -> int:
    found: int = await connection.fetchval("SELECT count(*) FROM scheduler.pipelines WHERE late_since IS NOT NULL")
    return found
