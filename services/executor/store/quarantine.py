"""store, quarantine: the index of the rows that were rejected: which file of the run folder holds which of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from asyncpg import Record

from dataaggregator.dataplane.job import QuarantineEntry, ReplicatedStream
from dataaggregator.db import Connection
from services.executor.domain import Status
from services.executor.store.runs import Run


@dataclass(frozen=True)
class StoredEntry:
    """Rejected rows that stand together in one file of the run folder; `first` is their place in the whole list."""

    stage: str
    kind: str | None
    rule: str
    reason: str
    reasons: dict[str, int]
    position: str | None
    file: str
    row_offset: int
    row_count: int
    destinations: list[str]
    """Those that have the other rows of the pass, and lack these."""
    replayed_by: UUID | None
    replicated: ReplicatedStream | None
    """The stream of a whole schema that they are of."""
    stored: bool
    """Whether the file is in the run store."""
    first: int


@dataclass(frozen=True)
class Chosen:
    """Which rejected rows are meant: those of one stage or rule, or all."""

    stage: str | None = None
    rule: str | None = None


_SELECT = """
    SELECT * FROM (
        SELECT stage, kind, rule, reason, reasons, position, file, row_offset, row_count, destinations,
            replayed_by, replicated, stored, ordinal,
            (sum(row_count) OVER (ORDER BY ordinal) - row_count)::bigint AS first
        FROM executor.quarantine
        WHERE run_id = $1 AND workspace_id = $2
            AND ($3::text IS NULL OR stage = $3) AND ($4::text IS NULL OR rule = $4)) entries"""


async def save(tx: Connection, run: Run, entries: Sequence[QuarantineEntry], *, stored: bool) -> None:
    """The index of the last attempt's rejected rows takes the place of the one before."""
    if not run.first_claim:
        await tx.execute("DELETE FROM executor.quarantine WHERE run_id = $1", run.run_id)
    if not entries:
        return
    await tx.executemany(
        """INSERT INTO executor.quarantine
               (run_id, workspace_id, ordinal, stage, kind, rule, reason, reasons, row_count, file, row_offset,
                position, destinations, replicated, stored)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)""",
        [
            (
                run.run_id, run.workspace_id, n, e.stage, e.kind, e.rule, e.reason, e.reasons, e.count, e.file,
                e.row_offset, e.position, list(e.destinations),
                None if e.replicated is None else e.replicated.model_dump(), stored,
            )
            for n, e in enumerate(entries)
        ],
    )  # fmt: skip


async def list_entries(tx: Connection, workspace: UUID, run_id: UUID, chosen: Chosen) -> list[StoredEntry]:
    rows = await tx.fetch(f"{_SELECT} ORDER BY ordinal", run_id, workspace, chosen.stage, chosen.rule)
    return [_entry(row) for row in rows]


async def list_page(
    tx: Connection, workspace: UUID, run_id: UUID, chosen: Chosen, *, offset: int, limit: int
) -> list[StoredEntry]:
    """The entries that hold the rows offset … offset + limit of those that are meant."""
    rows = await tx.fetch(
        f"""{_SELECT} WHERE first < $5::bigint + $6::bigint AND first + row_count > $5 ORDER BY ordinal""",
        run_id,
        workspace,
        chosen.stage,
        chosen.rule,
        offset,
        limit,
    )
    return [_entry(row) for row in rows]


@dataclass(frozen=True)
class Unstored:
    """Of a run: the files that are not in the run store."""

    status: Status
    files: list[str]


async def list_unstored(tx: Connection, run_ids: Sequence[UUID]) -> dict[UUID, Unstored]:
    """Of these runs those that have such files."""
    rows = await tx.fetch(
        """SELECT q.run_id, r.status, array_agg(DISTINCT q.file) AS files
           FROM executor.quarantine q JOIN executor.runs r USING (run_id)
           WHERE NOT q.stored AND q.run_id = ANY($1) GROUP BY q.run_id, r.status""",
        list(run_ids),
    )
    return {row["run_id"]: Unstored(Status(row["status"]), row["files"]) for row in rows}


async def count_unstored_runs(tx: Connection) -> int:
    found: int = await tx.fetchval("SELECT count(DISTINCT run_id) FROM executor.quarantine WHERE NOT stored")
    return found


async def save_stored(tx: Connection, run_id: UUID, files: Sequence[str]) -> None:
    """An attempt that came meanwhile has files of its own, by other names."""
    await tx.execute(
        "UPDATE executor.quarantine SET stored = true WHERE run_id = $1 AND file = ANY($2)", run_id, list(files)
    )


def _entry(row: Record) -> StoredEntry:
    values = {name: value for name, value in row.items() if name not in {"ordinal", "replicated"}}
    of = row["replicated"]
    return StoredEntry(**values, replicated=None if of is None else ReplicatedStream.model_validate(of))
