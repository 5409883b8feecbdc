"""store, logs: the structured lines of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.db import Connection, json_texts

LEVELS = ("debug", "info", "warning", "error")
"""A level is stored as its place in this list, so that "at least" is a comparison."""


@dataclass(frozen=True)
class NewLine:
    attempt: int
    at: datetime
    level: str
    message: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class StoredLine:
    line: int
    attempt: int
    at: datetime
    level: str
    message: str
    fields: dict[str, Any]


async def add_lines(tx: Connection, workspace: UUID, run_id: UUID, epoch: int, lines: Sequence[NewLine]) -> None:
    """Store lines of a running run in their order; under a lost lease nothing is written.

    The lease cannot be lost before they are committed: whoever has read a later line has read these.
    """
    await tx.execute(
        """INSERT INTO executor.logs (run_id, workspace_id, attempt, at, level, message, fields)
           SELECT r.run_id, r.workspace_id, l.attempt, l.at, l.level, l.message, l.fields::json
           FROM (SELECT run_id, workspace_id FROM executor.runs
                 WHERE run_id = $1 AND workspace_id = $2 AND lease_epoch = $3 AND status = 'running' FOR SHARE) r,
               unnest($4::int[], $5::timestamptz[], $6::smallint[], $7::text[], $8::text[])
                   WITH ORDINALITY AS l(attempt, at, level, message, fields, place)
           ORDER BY l.place""",
        run_id,
        workspace,
        epoch,
        [line.attempt for line in lines],
        [line.at for line in lines],
        [LEVELS.index(line.level) for line in lines],
        [line.message for line in lines],
        json_texts(line.fields for line in lines),
    )


async def count_lines(tx: Connection, run_id: UUID) -> int:
    found: int = await tx.fetchval("SELECT count(*) FROM executor.logs WHERE run_id = $1", run_id)
    return found


async def list_lines(
    tx: Connection, workspace: UUID, run_id: UUID, *, level: str, after: int, limit: int
) -> list[StoredLine]:
    rows = await tx.fetch(
        """SELECT line, attempt, at, level, message, fields FROM executor.logs
           WHERE run_id = $1 AND workspace_id = $2 AND level >= $3 AND line > $4
           ORDER BY line LIMIT $5""",
        run_id,
        workspace,
        LEVELS.index(level),
        after,
        limit,
    )
    return [StoredLine(r["line"], r["attempt"], r["at"], LEVELS[r["level"]], r["message"], r["fields"]) for r in rows]


async def remove_lines(tx: Connection, run_id: UUID) -> None:
    await tx.execute("DELETE FROM executor.logs WHERE run_id = $1", run_id)
