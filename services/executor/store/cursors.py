"""store, cursors: how far the destinations have taken the source streams, and what was set by hand since."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.dataplane.job import CursorSet, KnownCursor
from dataaggregator.db import Connection
from services.executor.store.runs import Run

EVERY = ""
"""For every source stream, or every destination."""

SET_CURSORS = """json_build_object('source', nullif(source_stream, ''), 'destination', nullif(destination, ''),
    'cursor', cursor, 'epoch', epoch)"""


@dataclass(frozen=True)
class StoredCursor:
    """As the run of that epoch has committed it."""

    source: str
    destination: str
    cursor: dict[str, Any]
    run_id: UUID
    committed_at: datetime
    epoch: int


@dataclass(frozen=True)
class ByHand:
    """What somebody set, and when."""

    wanted: CursorSet
    set_at: datetime


async def save_cursors(tx: Connection, run: Run, cursors: Sequence[KnownCursor]) -> None:
    """Remember where the destinations stand; an older epoch never overwrites a newer one."""
    if not cursors:
        return
    await tx.executemany(
        """INSERT INTO executor.cursors
               (workspace_id, pipeline_id, source_stream, destination, cursor, run_id, lease_epoch)
           VALUES ($1, $2, $3, $4, $5, $6, $7)
           ON CONFLICT (pipeline_id, source_stream, destination) DO UPDATE
           SET cursor = excluded.cursor, run_id = excluded.run_id, lease_epoch = excluded.lease_epoch,
               committed_at = now()
           WHERE executor.cursors.lease_epoch <= excluded.lease_epoch""",
        [
            (run.workspace_id, run.pipeline_id, c.source, c.destination, c.cursor, run.run_id, run.epoch)
            for c in cursors
        ],
    )


async def list_cursors(tx: Connection, workspace: UUID, pipeline_id: UUID) -> list[StoredCursor]:
    rows = await tx.fetch(
        """SELECT source_stream, destination, cursor, run_id, committed_at, lease_epoch FROM executor.cursors
           WHERE workspace_id = $1 AND pipeline_id = $2 ORDER BY source_stream, destination""",
        workspace,
        pipeline_id,
    )
    return [StoredCursor(*row) for row in rows]


async def set_by_hand(
    tx: Connection, workspace: UUID, pipeline_id: UUID, wanted: Sequence[tuple[str, str, dict[str, Any] | None]]
) -> None:
    """Source stream, destination and cursor of each, all under one number behind the epochs given out so far."""
    epoch = await tx.fetchval("SELECT nextval('executor.lease_epochs')")
    await tx.executemany(
        """INSERT INTO executor.set_cursors (workspace_id, pipeline_id, source_stream, destination, cursor, epoch)
           VALUES ($1, $2, $3, $4, $5, $6)
           ON CONFLICT (pipeline_id, source_stream, destination) DO UPDATE
           SET cursor = excluded.cursor, epoch = excluded.epoch, set_at = now()""",
        [(workspace, pipeline_id, *one, epoch) for one in wanted],
    )


async def list_by_hand(tx: Connection, workspace: UUID, pipeline_id: UUID) -> list[ByHand]:
    rows = await tx.fetch(
        f"""SELECT {SET_CURSORS} AS wanted, set_at FROM executor.set_cursors
            WHERE workspace_id = $1 AND pipeline_id = $2""",
        workspace,
        pipeline_id,
    )
    return [ByHand(CursorSet(**row["wanted"]), row["set_at"]) for row in rows]


async def remove_cursors(tx: Connection, workspace: UUID, pipeline_id: UUID) -> None:
    for table in ("cursors", "set_cursors"):
        await tx.execute(
            f"DELETE FROM executor.{table} WHERE workspace_id = $1 AND pipeline_id = $2", workspace, pipeline_id
        )
