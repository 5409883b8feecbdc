"""store, results: what attempts leave behind: their history and ledgers, cursors."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.dataplane.job import KnownCursor
from dataaggregator.db import Connection
from services.executor.domain import End
from services.executor.store.runs import Run


@dataclass(frozen=True)
class StoredCursor:
    source: str
    destination: str
    cursor: dict[str, Any]
    run_id: UUID
    committed_at: datetime


_CURSOR = "source_stream, destination, cursor, run_id, committed_at"


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
            if c.cursor is not None
        ],
    )


async def list_cursors(tx: Connection, workspace: UUID, pipeline_id: UUID) -> list[StoredCursor]:
    rows = await tx.fetch(
        f"""SELECT {_CURSOR} FROM executor.cursors
            WHERE workspace_id = $1 AND pipeline_id = $2 ORDER BY source_stream, destination""",
        workspace,
        pipeline_id,
    )
    return [_cursor(row) for row in rows]


async def remove_cursors(tx: Connection, workspace: UUID, pipeline_id: UUID) -> None:
    await tx.execute(
        "DELETE FROM executor.cursors WHERE workspace_id = $1 AND pipeline_id = $2", workspace, pipeline_id
    )


def _cursor(row: Any) -> StoredCursor:
    return StoredCursor(row["source_stream"], row["destination"], row["cursor"], row["run_id"], row["committed_at"])
