"""Runs, store: all SQL of runs as asked for and the mirror of their state."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Record

from dataaggregator.contracts.priorities import PLACES, Priority
from dataaggregator.contracts.run import DestinationOutcome, Replay, RunCounts, RunError, RunProgressed
from dataaggregator.db import Connection
from dataaggregator.db.keyset import Keyset
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.http.paging import PageQuery
from services.scheduler.runs.domain import Asked, Attempt, Run, Status

PRIORITIES: Mapping[int, Priority] = {place: priority for priority, place in PLACES.items()}
AT_WORK = "handed_over_at IS NOT NULL AND finished_at IS NULL AND backfill_id IS NULL"
SORTS = Keyset({"queued_at": datetime}, default="-queued_at")


@dataclass(frozen=True)
class Filters:
    """What a list of runs is narrowed to."""

    statuses: tuple[Status, ...] = ()
    pipeline: str | None = None
    trigger: str | None = None
    parent: UUID | None = None
    backfill: UUID | None = None


async def now(tx: Connection) -> datetime:
    """The database's clock, the only one that schedules and runs go by."""
    moment: datetime = await tx.fetchval("SELECT now()")
    return moment


async def add(tx: Connection, run: Run) -> None:
    """As asked for. A second one in a lane would break runs_one_handed_over and with it this transaction."""
    asked = run.asked
    await tx.execute(
        """
        INSERT INTO scheduler.runs
            (id, workspace_id, pipeline_id, pipeline_name, pipeline_version, trigger, parent_run_id, parameters,
             full_refresh, interval_start, interval_end, definition, status, queued_at, handed_over_at, finished_at,
             error, trace_id, replay, backfill_id, priority, lane)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)""",
        run.id,
        run.workspace_id,
        run.pipeline_id,
        run.pipeline_name,
        run.pipeline_version,
        asked.trigger,
        asked.parent_run_id,
        dict(asked.parameters),
        asked.full_refresh,
        asked.interval_start,
        asked.interval_end,
        dict(run.definition),
        run.status.value,
        run.queued_at,
        run.handed_over_at,
        run.finished_at,
        _plain(run.error),
        run.trace_id,
        asked.replay.model_dump(mode="json") if asked.replay is not None else None,
        asked.backfill_id,
        PLACES[run.priority],
        run.lane,
    )


async def save(tx: Connection, run: Run) -> None:
    """The state of a run that `get` has locked; raises Conflict for one that has ended before."""
    if await save_all(tx, [run]) != 1:
        raise Conflict("run-ended", "The run has already ended.")


async def save_all(tx: Connection, runs: Sequence[Run]) -> int:
    """The states of runs of one workspace that are locked; the answer is how many of them had not ended before."""
    if not runs:
        return 0
    done = await tx.execute(_SAVE, runs[0].workspace_id, [_state(run) for run in runs])
    return int(done.removeprefix("UPDATE "))


CHANGED = (
    *("status", "handed_over_at", "started_at", "finished_at", "retry_at", "cancel_requested_at", "attempts", "counts"),
    *("progress", "balanced", "destinations", "warnings", "error", "lane"),
)
_SAVE = f"""
    UPDATE scheduler.runs r SET {", ".join(f"{name} = s.{name}" for name in CHANGED)}
    FROM json_populate_recordset(NULL::scheduler.runs, $2::json) s
    WHERE r.workspace_id = $1 AND r.id = s.id AND r.finished_at IS NULL"""


def _state(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "status": run.status.value,
        "handed_over_at": run.handed_over_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "retry_at": run.retry_at,
        "cancel_requested_at": run.cancel_requested_at,
        "attempts": [_attempt_out(attempt) for attempt in run.attempts],
        "counts": run.counts.model_dump(mode="json"),
        "progress": run.progress,
        "balanced": run.balanced,
        "destinations": [outcome.model_dump(mode="json") for outcome in run.destinations],
        "warnings": list(run.warnings),
        "error": _plain(run.error),
        "lane": run.lane,
    }


async def save_definition(tx: Connection, run: Run) -> None:
    """Of a run that the caller has locked."""
    statement = "UPDATE scheduler.runs SET definition = $3 WHERE workspace_id = $1 AND id = $2"
    await tx.execute(statement, run.workspace_id, run.id, dict(run.definition))


async def save_progress(tx: Connection, workspace: UUID, told: RunProgressed) -> None:
    """Of the attempt that runs; that of an earlier one, or of an ended run, says nothing any more."""
    await tx.execute(
        """
        UPDATE scheduler.runs SET progress = $4, counts = counts || $5
        WHERE workspace_id = $1 AND id = $2 AND status = 'running' AND (attempts -> -1 ->> 'number')::integer = $3""",
        workspace,
        told.run_id,
        told.attempt,
        told.progress,
        {"rows_read": told.rows_read, "rows_written": told.rows_written},
    )


async def get(tx: Connection, workspace: UUID, id_: UUID, *, lock: bool = False) -> Run:
    """Raises NotFound."""
    run = await find(tx, workspace, id_, lock=lock)
    if run is None:
        raise _unknown()
    return run


async def lock_all(tx: Connection, workspace: UUID, ids: Sequence[UUID]) -> Mapping[UUID, Run]:
    """These runs, locked in the order of their ids; raises NotFound if one is unknown."""
    statement = "SELECT * FROM scheduler.runs WHERE workspace_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE"
    found = {row["id"]: _run(row) for row in await tx.fetch(statement, workspace, ids)}
    if len(found) < len(set(ids)):
        raise _unknown()
    return found


async def find(tx: Connection, workspace: UUID, id_: UUID, *, lock: bool = False) -> Run | None:
    statement = "SELECT * FROM scheduler.runs WHERE workspace_id = $1 AND id = $2" + (" FOR UPDATE" if lock else "")
    row = await tx.fetchrow(statement, workspace, id_)
    return _run(row) if row is not None else None


@dataclass(frozen=True)
class Turn:
    """What decides on a new run of a pipeline that the caller has locked."""

    now: datetime
    at_work: Mapping[int, UUID]
    """By lane, its runs that the executor has now, beside those of its backfills."""
    waits: bool
    """Whether another run waits for its turn."""
    asked_before: UUID | None
    """The run that the same call asked for before; it has committed, because it had the lock too."""


async def turn(tx: Connection, workspace: UUID, pipeline: UUID, run_id: UUID | None = None) -> Turn:
    """Asked under `run_id`, if the call has an id of its own."""
    statement = f"""
        SELECT now() AS now,
            (SELECT json_object_agg(lane, id ORDER BY handed_over_at, lane) FROM scheduler.runs
                WHERE workspace_id = $1 AND pipeline_id = $2 AND {AT_WORK}) AS at_work,
            EXISTS (SELECT FROM scheduler.runs WHERE workspace_id = $1 AND pipeline_id = $2
                AND handed_over_at IS NULL AND finished_at IS NULL) AS waits,
            (SELECT id FROM scheduler.runs WHERE workspace_id = $1 AND id = $3) AS asked_before"""
    [row] = await tx.fetch(statement, workspace, pipeline, run_id)
    at_work = {int(lane): UUID(id_) for lane, id_ in (row["at_work"] or {}).items()}
    return Turn(row["now"], at_work, row["waits"], row["asked_before"])


async def find_replay(tx: Connection, workspace: UUID, parent: UUID) -> UUID | None:
    """The replay of this run's rejected rows that has not ended; runs_one_replay lets no second one be there."""
    statement = """
        SELECT id FROM scheduler.runs
        WHERE workspace_id = $1 AND parent_run_id = $2 AND trigger = 'replay' AND finished_at IS NULL"""
    found: UUID | None = await tx.fetchval(statement, workspace, parent)
    return found


@dataclass(frozen=True)
class Waiting:
    """A run that waits for its turn, locked."""

    run: Run
    taken: Sequence[int]
    """The lanes in which runs of its pipeline are at work."""
    now: datetime
    approved: Sequence[Mapping[str, Any]]
    """What runs of its pipeline may change now."""


async def find_waiting(tx: Connection, workspace: UUID, pipelines: Sequence[UUID]) -> Sequence[Waiting]:
    """Of each pipeline that a run waits for the turn of the most urgent one, of those the one that waits longest."""
    statement = f"""
        SELECT w.*, now() AS now,
            ARRAY(SELECT lane FROM scheduler.runs WHERE pipeline_id = w.pipeline_id AND {AT_WORK}) AS taken,
            (SELECT approved_changes FROM scheduler.pipelines WHERE id = w.pipeline_id) AS approved
        FROM unnest($2::uuid[]) AS p (id) CROSS JOIN LATERAL (
            SELECT * FROM scheduler.runs
            WHERE workspace_id = $1 AND pipeline_id = p.id AND handed_over_at IS NULL AND finished_at IS NULL
            ORDER BY priority, queued_at, id LIMIT 1 FOR UPDATE) w"""
    rows = await tx.fetch(statement, workspace, pipelines)
    return [Waiting(_run(row), row["taken"], row["now"], row["approved"] or ()) for row in rows]


async def of_backfill(tx: Connection, workspace: UUID, backfill: UUID) -> Sequence[Run]:
    """Its runs that have not ended, locked."""
    statement = """
        SELECT * FROM scheduler.runs WHERE workspace_id = $1 AND backfill_id = $2 AND finished_at IS NULL
        ORDER BY id FOR UPDATE"""
    return [_run(row) for row in await tx.fetch(statement, workspace, backfill)]


async def not_ended(tx: Connection, workspace: UUID, pipeline: UUID) -> Sequence[Run]:
    """All runs of a pipeline that have not ended, locked."""
    statement = """
        SELECT * FROM scheduler.runs WHERE workspace_id = $1 AND pipeline_id = $2 AND finished_at IS NULL
        ORDER BY queued_at, id FOR UPDATE"""
    return [_run(row) for row in await tx.fetch(statement, workspace, pipeline)]


async def waiting_too_long(tx: Connection, limit_seconds: float, count: int) -> Sequence[Run]:
    """Some that wait for the run before them longer than that, locked; those that somebody else works on left out."""
    statement = """
        SELECT * FROM scheduler.runs WHERE status = 'queued' AND handed_over_at IS NULL AND finished_at IS NULL
            AND queued_at < now() - make_interval(secs => $1)
        ORDER BY queued_at LIMIT $2 FOR UPDATE SKIP LOCKED"""
    return [_run(row) for row in await tx.fetch(statement, limit_seconds, count)]


async def list_page(
    tx: Connection, workspace: UUID, filters: Filters, query: PageQuery
) -> tuple[Sequence[Run], str | None]:
    part = SORTS.slice(query.sort, query.cursor, after=6)
    statement = f"""
        SELECT * FROM scheduler.runs WHERE workspace_id = $1
            AND (cardinality($2::text[]) = 0 OR status = ANY($2))
            AND ($3::text IS NULL OR $3 IN (pipeline_id::text, pipeline_name))
            AND ($4::text IS NULL OR trigger = $4) AND ($5::uuid IS NULL OR parent_run_id = $5)
            AND ($6::uuid IS NULL OR backfill_id = $6)
            {part.where}"""
    statuses = [status.value for status in filters.statuses]
    given = (statuses, filters.pipeline, filters.trigger, filters.parent, filters.backfill)
    page, cursor = await part.fetch(tx, statement, workspace, *given, limit=query.limit)
    return [_run(row) for row in page], cursor


async def of_pipeline(
    tx: Connection, workspace: UUID, pipeline: UUID, query: PageQuery
) -> tuple[Sequence[Run], str | None]:
    """The history of one pipeline."""
    part = SORTS.slice(query.sort, query.cursor, after=2)
    statement = f"""
        SELECT * FROM scheduler.runs WHERE workspace_id = $1 AND pipeline_id = $2 {part.where}"""
    page, cursor = await part.fetch(tx, statement, workspace, pipeline, limit=query.limit)
    return [_run(row) for row in page], cursor


def _unknown() -> NotFound:
    return NotFound("run-unknown", "There is no such run in this workspace.")


def _attempt_out(attempt: Attempt) -> dict[str, Any]:
    return asdict(attempt) | {"error": _plain(attempt.error)}


def _attempt_in(value: Mapping[str, Any]) -> Attempt:
    ended_at, error = value["ended_at"], value["error"]
    return Attempt(
        value["number"],
        value["executor"],
        datetime.fromisoformat(value["started_at"]),
        datetime.fromisoformat(ended_at) if ended_at else None,
        RunError.model_validate(error) if error else None,
    )


def _plain(error: RunError | None) -> dict[str, Any] | None:
    return error.model_dump(mode="json") if error is not None else None


def _run(row: Record) -> Run:
    return Run(
        id=row["id"],
        workspace_id=row["workspace_id"],
        pipeline_id=row["pipeline_id"],
        pipeline_name=row["pipeline_name"],
        pipeline_version=row["pipeline_version"],
        asked=Asked(
            trigger=row["trigger"],
            parameters=row["parameters"],
            full_refresh=row["full_refresh"],
            interval_start=row["interval_start"],
            interval_end=row["interval_end"],
            parent_run_id=row["parent_run_id"],
            replay=Replay.model_validate(row["replay"]) if row["replay"] else None,
            backfill_id=row["backfill_id"],
        ),
        definition=row["definition"],
        queued_at=row["queued_at"],
        priority=PRIORITIES[row["priority"]],
        lane=row["lane"],
        trace_id=row["trace_id"],
        status=Status(row["status"]),
        handed_over_at=row["handed_over_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        retry_at=row["retry_at"],
        cancel_requested_at=row["cancel_requested_at"],
        attempts=tuple(_attempt_in(value) for value in row["attempts"]),
        counts=RunCounts.model_validate(row["counts"]),
        progress=row["progress"],
        balanced=row["balanced"],
        destinations=tuple(DestinationOutcome.model_validate(value) for value in row["destinations"]),
        warnings=tuple(row["warnings"]),
        error=RunError.model_validate(row["error"]) if row["error"] else None,
    )
