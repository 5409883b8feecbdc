"""store, logs: the structured lines of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.db import Connection, json_texts
from dataaggregator.db.pages import fetch_page
from dataaggregator.errors import Transient

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


@dataclass(frozen=True)
class RunLines:
    """Lines of a running run in their order, under its lease of that epoch."""

    run_id: UUID
    epoch: int
    lines: Sequence[NewLine]


_ADD = """
    WITH added AS (
        INSERT INTO executor.logs (run_id, workspace_id, attempt, at, level, message, fields)
        SELECT r.run_id, r.workspace_id, l.attempt, l.at, l.level, l.message, l.fields::json
        FROM (SELECT run_id, workspace_id FROM executor.runs
              WHERE workspace_id = $1 AND status = 'running'
                  AND (run_id, lease_epoch) IN (SELECT * FROM unnest($2::uuid[], $3::bigint[])) FOR SHARE) r
        JOIN unnest($4::uuid[], $5::int[], $6::timestamptz[], $7::smallint[], $8::text[], $9::text[])
            WITH ORDINALITY AS l(run_id, attempt, at, level, message, fields, place) USING (run_id)
        ORDER BY l.place)
    SELECT pg_current_xact_id()::text"""


async def add_lines(tx: Connection, workspace: UUID, told: Sequence[RunLines]) -> str | None:
    """Store them, for runs of this workspace; under a lost lease nothing is written. Returns what `has_committed` knows
    the transaction by; None without lines.

    The lease cannot be lost before they are committed: whoever has read a later line has read these.
    """
    each = [(one.run_id, line) for one in told for line in one.lines]
    if not each:
        return None
    transaction: str = await tx.fetchval(
        _ADD,
        workspace,
        [one.run_id for one in told],
        [one.epoch for one in told],
        [run_id for run_id, _ in each],
        [line.attempt for _, line in each],
        [line.at for _, line in each],
        [LEVELS.index(line.level) for _, line in each],
        [line.message for _, line in each],
        json_texts(line.fields for _, line in each),
    )
    return transaction


async def has_committed(tx: Connection, transaction: str) -> bool:
    """Of another transaction, as the server has it; Transient while it is under way."""
    status = await tx.fetchval("SELECT pg_xact_status($1::text::xid8)", transaction)
    if status == "in progress":
        detail = "Lines of the log are still being stored by a connection that was lost; they are asked about again."
        raise Transient("database-busy", detail)
    return bool(status == "committed")


async def add_warning(tx: Connection, workspace: UUID, run_id: UUID, attempt: int, message: str) -> None:
    """In the place of an attempt that cannot speak any more; the caller holds the run's row."""
    await tx.execute(
        """INSERT INTO executor.logs (run_id, workspace_id, attempt, at, level, message, fields)
           VALUES ($1, $2, $3, clock_timestamp(), $4, $5, '{}')""",
        run_id,
        workspace,
        attempt,
        LEVELS.index("warning"),
        message,
    )


async def count_lines(tx: Connection, run_id: UUID) -> int:
    found: int = await tx.fetchval("SELECT count(*) FROM executor.logs WHERE run_id = $1", run_id)
    return found


async def list_lines(
    tx: Connection, workspace: UUID, run_id: UUID, *, level: str, after: int, limit: int
) -> tuple[list[StoredLine], bool]:
    """A page of the lines after that one, and whether there are more."""
    statement = """
        SELECT line, attempt, at, level, message, fields FROM executor.logs
        WHERE run_id = $1 AND workspace_id = $2 AND level >= $3 AND line > $4"""
    page = await fetch_page(tx, statement, "line", run_id, workspace, LEVELS.index(level), after, limit=limit)
    lines = [
        StoredLine(r["line"], r["attempt"], r["at"], LEVELS[r["level"]], r["message"], r["fields"]) for r in page.rows
    ]
    return lines, page.more
