"""Backfills, store: all SQL of backfills and their slots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.run import RunError
from dataaggregator.db import Connection
from dataaggregator.db.keyset import Keyset
from dataaggregator.errors import NotFound
from dataaggregator.http.paging import PageQuery
from dataaggregator.ids import new_id
from services.scheduler.backfills.domain import Backfill, Progress, Slot, SlotStatus, Status

SORTS = Keyset({"created_at": datetime}, default="-created_at")
SLOTS = Keyset({"interval_start": datetime}, default="interval_start", tie=("backfill_id", UUID))
PROGRESS = """
    SELECT count(*) AS slots, count(*) FILTER (WHERE status = 'queued') AS queued,
        count(*) FILTER (WHERE status = 'running') AS running,
        count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'cancelled') AS cancelled
    FROM scheduler.backfill_slots"""
SHOWN = f"""
    SELECT b.*, s.slots, s.queued, s.running, s.succeeded, s.failed, s.cancelled
    FROM scheduler.backfills b CROSS JOIN LATERAL ({PROGRESS} WHERE backfill_id = b.id) s"""


@dataclass(frozen=True)
class Shown:
    """A backfill with how far it is."""

    backfill: Backfill
    progress: Progress


async def add(tx: Connection, backfill: Backfill, slots: Sequence[Slot]) -> None:
    """With all its slots, which wait."""
    await tx.execute(
        """
        INSERT INTO scheduler.backfills
            (id, workspace_id, pipeline_id, pipeline_name, pipeline_version, definition, parameters, starts_at, ends_at,
             slot_length, concurrency, overwrite, status, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)""",
        backfill.id,
        backfill.workspace_id,
        backfill.pipeline_id,
        backfill.pipeline_name,
        backfill.pipeline_version,
        dict(backfill.definition),
        dict(backfill.parameters),
        backfill.start,
        backfill.end,
        str(backfill.interval),
        backfill.concurrency,
        backfill.overwrite,
        backfill.status.value,
        backfill.created_at,
        backfill.created_by,
    )
    await tx.execute(
        """
        INSERT INTO scheduler.backfill_slots (backfill_id, workspace_id, interval_start, interval_end, status)
        SELECT $1, $2, a, b, 'queued' FROM unnest($3::timestamptz[], $4::timestamptz[]) AS slot (a, b)""",
        backfill.id,
        backfill.workspace_id,
        [slot.interval_start for slot in slots],
        [slot.interval_end for slot in slots],
    )


async def get(tx: Connection, workspace: UUID, id_: UUID, *, lock: bool = False) -> Backfill:
    """Raises NotFound."""
    statement = "SELECT * FROM scheduler.backfills WHERE workspace_id = $1 AND id = $2" + (
        " FOR UPDATE" if lock else ""
    )
    row = await tx.fetchrow(statement, workspace, id_)
    if row is None:
        raise _unknown()
    return _backfill(row)


async def show(tx: Connection, workspace: UUID, id_: UUID) -> Shown:
    """Raises NotFound."""
    found = await find(tx, workspace, id_)
    if found is None:
        raise _unknown()
    return found


async def find(tx: Connection, workspace: UUID, id_: UUID) -> Shown | None:
    row = await tx.fetchrow(f"{SHOWN} WHERE b.workspace_id = $1 AND b.id = $2", workspace, id_)
    return None if row is None else _shown(row)


async def list_page(
    tx: Connection, workspace: UUID, pipeline: UUID, status: str | None, query: PageQuery
) -> tuple[Sequence[Shown], str | None]:
    part = SORTS.slice(query.sort, query.cursor, after=3)
    statement = f"""
        {SHOWN} WHERE b.workspace_id = $1 AND b.pipeline_id = $2 AND ($3::text IS NULL OR b.status = $3)
        {part.where}"""
    page, cursor = await part.fetch(tx, statement, workspace, pipeline, status, limit=query.limit)
    return [_shown(row) for row in page], cursor


async def list_slots(
    tx: Connection, workspace: UUID, id_: UUID, status: str | None, query: PageQuery
) -> tuple[Sequence[Slot], str | None]:
    """Raises NotFound."""
    part = SLOTS.slice(query.sort, query.cursor, after=3)
    statement = f"""
        SELECT * FROM scheduler.backfill_slots
        WHERE workspace_id = $1 AND backfill_id = $2 AND ($3::text IS NULL OR status = $3)
        {part.where}"""
    await get(tx, workspace, id_)
    page, cursor = await part.fetch(tx, statement, workspace, id_, status, limit=query.limit)
    return [_slot(row) for row in page], cursor


async def running_of(tx: Connection, workspace: UUID, pipeline: UUID) -> Sequence[Backfill]:
    """Those of a pipeline that have not ended, locked."""
    statement = """
        SELECT * FROM scheduler.backfills WHERE workspace_id = $1 AND pipeline_id = $2 AND status = 'running'
        ORDER BY id FOR UPDATE"""
    return [_backfill(row) for row in await tx.fetch(statement, workspace, pipeline)]


async def with_room(tx: Connection, count: int) -> Sequence[Backfill]:
    """Some whose slots wait although fewer run than may, each locked with its pipeline, which is active; those that
    somebody else works on left out."""
    statement = """
        SELECT b.* FROM scheduler.backfills b JOIN scheduler.pipelines p ON p.id = b.pipeline_id
        WHERE b.status = 'running' AND b.cancel_requested_at IS NULL AND p.status = 'active'
            AND EXISTS (SELECT FROM scheduler.backfill_slots s WHERE s.backfill_id = b.id AND s.status = 'queued')
            AND b.concurrency > (
                SELECT count(*) FROM scheduler.backfill_slots s WHERE s.backfill_id = b.id AND s.status = 'running')
        ORDER BY b.created_at, b.id LIMIT $1 FOR UPDATE OF p, b SKIP LOCKED"""
    return [_backfill(row) for row in await tx.fetch(statement, count)]


async def take_slots(tx: Connection, backfill: Backfill) -> Sequence[Slot]:
    """The next ones that wait, one for each free lane, each with the id of a run that is to be asked for.

    The backfill is locked. One slot in a lane: a second would break backfill_lanes and with it this transaction.
    """
    statement = """
        WITH free AS (
            SELECT lane, row_number() OVER (ORDER BY lane) AS place FROM generate_series(1, $3::int) AS lane
            WHERE lane NOT IN (
                SELECT lane FROM scheduler.backfill_slots WHERE backfill_id = $2 AND status = 'running')
        ), due AS (
            SELECT interval_start, row_number() OVER (ORDER BY interval_start) AS place
            FROM scheduler.backfill_slots WHERE backfill_id = $2 AND status = 'queued'
            ORDER BY interval_start LIMIT $3
        )
        UPDATE scheduler.backfill_slots s SET status = 'running', lane = free.lane, run_id = ($4::uuid[])[free.place]
        FROM free JOIN due USING (place)
        WHERE s.workspace_id = $1 AND s.backfill_id = $2 AND s.interval_start = due.interval_start
        RETURNING s.*"""
    ids = [new_id() for _ in range(backfill.concurrency)]
    rows = await tx.fetch(statement, backfill.workspace_id, backfill.id, backfill.concurrency, ids)
    return sorted((_slot(row) for row in rows), key=lambda slot: slot.interval_start)


async def settle(tx: Connection, backfill: Backfill, ended: Mapping[UUID, SlotStatus]) -> None:
    """The slots of these runs, which have ended."""
    await tx.executemany(
        """UPDATE scheduler.backfill_slots SET status = $4, lane = NULL
        WHERE workspace_id = $1 AND backfill_id = $2 AND run_id = $3 AND status = 'running'""",
        [(backfill.workspace_id, backfill.id, run, status.value) for run, status in ended.items()],
    )


async def move(tx: Connection, backfill: Backfill, before: Sequence[SlotStatus], after: SlotStatus) -> None:
    """Slots that no run is at work on from one of these states to another; their next run is another one."""
    statement = """
        UPDATE scheduler.backfill_slots SET status = $4, run_id = CASE $4 WHEN 'queued' THEN NULL ELSE run_id END
        WHERE workspace_id = $1 AND backfill_id = $2 AND status = ANY($3) AND lane IS NULL"""
    states = [status.value for status in before]
    await tx.execute(statement, backfill.workspace_id, backfill.id, states, after.value)


async def progress(tx: Connection, backfill: Backfill) -> Progress:
    statement = f"{PROGRESS} WHERE workspace_id = $1 AND backfill_id = $2"
    [row] = await tx.fetch(statement, backfill.workspace_id, backfill.id)
    return _progress(row)


async def save(tx: Connection, backfill: Backfill) -> None:
    """The state of a backfill that is locked."""
    await tx.execute(
        """UPDATE scheduler.backfills SET status = $3, cancel_requested_at = $4, finished_at = $5, error = $6
        WHERE workspace_id = $1 AND id = $2""",
        backfill.workspace_id,
        backfill.id,
        backfill.status.value,
        backfill.cancel_requested_at,
        backfill.finished_at,
        None if backfill.error is None else backfill.error.model_dump(mode="json"),
    )


def _unknown() -> NotFound:
    return NotFound("backfill-unknown", "There is no such backfill in this workspace.")


def _shown(row: Record) -> Shown:
    return Shown(_backfill(row), _progress(row))


def _progress(row: Record) -> Progress:
    return Progress(**{name: row[name] for name in Progress.__dataclass_fields__})


def _slot(row: Record) -> Slot:
    return Slot(row["interval_start"], row["interval_end"], SlotStatus(row["status"]), row["run_id"])


def _backfill(row: Record) -> Backfill:
    return Backfill(
        id=row["id"],
        workspace_id=row["workspace_id"],
        pipeline_id=row["pipeline_id"],
        pipeline_name=row["pipeline_name"],
        pipeline_version=row["pipeline_version"],
        definition=row["definition"],
        parameters=row["parameters"],
        start=row["starts_at"],
        end=row["ends_at"],
        interval=Duration(row["slot_length"]),
        concurrency=row["concurrency"],
        overwrite=row["overwrite"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        status=Status(row["status"]),
        cancel_requested_at=row["cancel_requested_at"],
        finished_at=row["finished_at"],
        error=RunError.model_validate(row["error"]) if row["error"] else None,
    )
