"""store, cleaning: what may go when a run's retention is over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from dataaggregator.db import Connection
from services.executor.domain import Status


@dataclass(frozen=True)
class Known:
    """A run that is here; `cleaned` if its retention is over."""

    status: Status
    cleaned: bool


async def list_known(tx: Connection, run_ids: Sequence[UUID]) -> dict[UUID, Known]:
    """The runs among these that are known."""
    rows = await tx.fetch(
        "SELECT run_id, status, cleaned_at IS NOT NULL AS cleaned FROM executor.runs WHERE run_id = ANY($1)",
        list(run_ids),
    )
    return {row["run_id"]: Known(Status(row["status"]), row["cleaned"]) for row in rows}


async def clean_outlived(tx: Connection, retention: timedelta, limit: int) -> list[UUID]:
    """Remove logs and the quarantine's index of runs that ended before the retention; ledgers stay."""
    rows = await tx.fetch(
        """UPDATE executor.runs SET cleaned_at = now() WHERE run_id IN (
               SELECT run_id FROM executor.runs
               WHERE finished_at < now() - $1::interval AND cleaned_at IS NULL
               ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)
           RETURNING run_id""",
        retention,
        limit,
    )
    run_ids = [row["run_id"] for row in rows]
    await tx.execute("DELETE FROM executor.logs WHERE run_id = ANY($1)", run_ids)
    await tx.execute("DELETE FROM executor.quarantine WHERE run_id = ANY($1)", run_ids)
    await tx.execute(
        """DELETE FROM executor.early_cancels e WHERE requested_at < now() - $1::interval
           OR EXISTS (SELECT 1 FROM executor.runs r WHERE r.run_id = e.run_id)""",
        retention,
    )
    return run_ids
