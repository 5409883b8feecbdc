"""Pipelines, store: all SQL of pipelines, their versions and what they use."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from asyncpg import Record, UniqueViolationError

from dataaggregator.contracts.connector import DestinationDifference
from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.db import Connection
from dataaggregator.db.keyset import Keyset
from dataaggregator.db.pages import NO_LIMIT, fetch_page
from dataaggregator.definition import Author, Version, key
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.http.paging import PageQuery
from services.scheduler.pipelines.domain import Connector, Pipeline, Status

SORTS = Keyset({"name": str, "created_at": datetime, "updated_at": datetime}, default="name")
VERSIONS = Keyset({"version": int}, default="-version", tie=("pipeline_id", UUID))

Lock = Literal["", "FOR SHARE", "FOR UPDATE"]


@dataclass(frozen=True)
class Shown:
    """A pipeline with what only a question at the database can say."""

    pipeline: Pipeline
    next_run_at: datetime | None
    last_run: Mapping[str, Any] | None
    trigger_problems: Sequence[dict[str, Any]]


SHOWN = """
    SELECT p.*, r.last_run,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('trigger', s.trigger, 'code', w.error_code,
            'detail', w.error_detail, 'since', w.failing_since) ORDER BY w.failing_since), '[]')
        FROM scheduler.watches w JOIN scheduler.schedules s ON s.id = w.schedule_id
        WHERE s.pipeline_id = p.id AND s.retired_at IS NULL AND w.failing_since IS NOT NULL) AS trigger_problems,
    CASE p.status WHEN 'active' THEN
        (SELECT min(s.next_slot_at + s.delay) FROM scheduler.schedules s
         WHERE s.pipeline_id = p.id AND s.retired_at IS NULL)
    END AS next_run_at
    FROM scheduler.pipelines p LEFT JOIN LATERAL (
        SELECT jsonb_build_object('id', id, 'status', status, 'trigger', trigger, 'queued_at', queued_at,
            'started_at', started_at, 'finished_at', finished_at) AS last_run
        FROM scheduler.runs WHERE pipeline_id = p.id AND backfill_id IS NULL ORDER BY queued_at DESC, id DESC LIMIT 1
    ) r ON true"""


async def add(tx: Connection, workspace: UUID, id_: UUID, definition: PipelineDefinition, author: Author) -> Pipeline:
    """The first version, active; raises Conflict if the name is taken."""
    statement = """
        INSERT INTO scheduler.pipelines
            (id, workspace_id, name, version, definition, status, active_since, created_at, updated_at, created_by)
        VALUES ($1, $2, $3, 1, $4, 'active', now(), now(), now(), $5) RETURNING *"""
    try:
        [row] = await tx.fetch(statement, id_, workspace, definition.name, written(definition), author.user_id)
    except UniqueViolationError:
        raise _taken(definition.name) from None
    await _keep_version(tx, workspace, id_, author)
    return pipeline_of(row)


async def save(tx: Connection, pipeline: Pipeline, definition: PipelineDefinition, author: Author) -> Pipeline:
    """A new version of a pipeline that `get` has locked."""
    statement = """
        UPDATE scheduler.pipelines SET name = $3, definition = $4, version = version + 1, updated_at = now(),
            watched = false
        WHERE workspace_id = $1 AND id = $2 RETURNING *"""
    try:
        [row] = await tx.fetch(statement, pipeline.workspace_id, pipeline.id, definition.name, written(definition))
    except UniqueViolationError:
        raise _taken(definition.name) from None
    await _keep_version(tx, pipeline.workspace_id, pipeline.id, author)
    return pipeline_of(row)


async def set_status(
    tx: Connection,
    pipeline: Pipeline,
    status: Status,
    reason: str | None = None,
    waiting: Sequence[DestinationDifference] = (),
) -> Pipeline:
    """Of a pipeline that `get` has locked; becoming active starts its triggers from now."""
    statement = """
        UPDATE scheduler.pipelines SET status = $3, status_reason = $4, waiting_changes = $5, watched = false,
            active_since = CASE $3 WHEN 'active' THEN now() ELSE active_since END
        WHERE workspace_id = $1 AND id = $2 RETURNING *"""
    [row] = await tx.fetch(statement, pipeline.workspace_id, pipeline.id, status.value, reason, _plain(waiting))
    return pipeline_of(row)


async def set_approved(
    tx: Connection,
    pipeline: Pipeline,
    approved: Sequence[DestinationDifference],
    waiting: Sequence[DestinationDifference],
) -> Pipeline:
    """Of a pipeline that `get` has locked: what its runs may change, and what still waits."""
    statement = """
        UPDATE scheduler.pipelines SET approved_changes = $3, waiting_changes = $4
        WHERE workspace_id = $1 AND id = $2 RETURNING *"""
    [row] = await tx.fetch(statement, pipeline.workspace_id, pipeline.id, _plain(approved), _plain(waiting))
    return pipeline_of(row)


async def get(tx: Connection, workspace: UUID, reference: str, *, lock: Lock = "") -> Pipeline:
    """By id or name; raises NotFound."""
    column, value = key(reference)
    statement = f"SELECT * FROM scheduler.pipelines WHERE workspace_id = $1 AND {column} = $2 {lock}"
    row = await tx.fetchrow(statement, workspace, value)
    if row is None:
        raise unknown(reference)
    return pipeline_of(row)


async def find(tx: Connection, workspace: UUID, id_: UUID) -> Pipeline | None:
    """None if it was deleted."""
    row = await tx.fetchrow("SELECT * FROM scheduler.pipelines WHERE workspace_id = $1 AND id = $2", workspace, id_)
    return None if row is None else pipeline_of(row)


async def named(tx: Connection, workspace: UUID, names: Collection[str]) -> dict[str, Pipeline]:
    """Those of these names there are, locked."""
    statement = "SELECT * FROM scheduler.pipelines WHERE workspace_id = $1 AND name = ANY($2) ORDER BY id FOR UPDATE"
    return {row["name"]: pipeline_of(row) for row in await tx.fetch(statement, workspace, list(names))}


async def list_at_once(tx: Connection, workspace: UUID, names: Sequence[str] | None) -> tuple[Sequence[Pipeline], bool]:
    """Those of these names (None: all) as far as they fit into PAGE_BYTES, and whether there are more."""
    statement = """
        SELECT * FROM scheduler.pipelines WHERE workspace_id = $1 AND ($2::text[] IS NULL OR name = ANY($2))"""
    page = await fetch_page(tx, statement, "name", workspace, names, limit=NO_LIMIT)
    return [pipeline_of(row) for row in page.rows], page.more


async def lock_all(tx: Connection, workspace: UUID, ids: Sequence[UUID]) -> None:
    """Hold those of the pipelines that are still there: whoever decides on their runs comes one after the other."""
    await tx.execute(
        "SELECT 1 FROM scheduler.pipelines WHERE workspace_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE",
        workspace,
        ids,
    )


async def show(tx: Connection, workspace: UUID, reference: str) -> Shown:
    column, value = key(reference)
    row = await tx.fetchrow(f"{SHOWN} WHERE p.workspace_id = $1 AND p.{column} = $2", workspace, value)
    if row is None:
        raise unknown(reference)
    return _shown(row)


async def list_page(
    tx: Connection, workspace: UUID, status: str | None, late: bool | None, query: PageQuery
) -> tuple[Sequence[Shown], str | None]:
    part = SORTS.slice(query.sort, query.cursor, after=3)
    statement = f"""
        SELECT * FROM ({SHOWN} WHERE p.workspace_id = $1 AND ($2::text IS NULL OR p.status = $2)
            AND ($3::boolean IS NULL OR (p.late_since IS NOT NULL) = $3)) shown
        WHERE true {part.where}"""
    page, cursor = await part.fetch(tx, statement, workspace, status, late, limit=query.limit)
    return [_shown(row) for row in page], cursor


async def list_versions(tx: Connection, pipeline: Pipeline, query: PageQuery) -> tuple[Sequence[Version], str | None]:
    part = VERSIONS.slice(query.sort, query.cursor, after=2)
    statement = f"""
        SELECT * FROM scheduler.pipeline_versions WHERE workspace_id = $1 AND pipeline_id = $2 {part.where}"""
    page, cursor = await part.fetch(tx, statement, pipeline.workspace_id, pipeline.id, limit=query.limit)
    return [Version(row["version"], row["definition"], row["created_at"], row["created_by"]) for row in page], cursor


async def find_written_before(tx: Connection, pipeline: Pipeline) -> Mapping[str, Any] | None:
    """How the version before this one was written; None for the first."""
    found: Mapping[str, Any] | None = await tx.fetchval(
        """SELECT definition FROM scheduler.pipeline_versions
           WHERE workspace_id = $1 AND pipeline_id = $2 AND version = $3""",
        pipeline.workspace_id,
        pipeline.id,
        pipeline.version - 1,
    )
    return found


async def remove(tx: Connection, pipeline: Pipeline) -> None:
    statement = "DELETE FROM scheduler.pipelines WHERE workspace_id = $1 AND id = $2"
    await tx.execute(statement, pipeline.workspace_id, pipeline.id)


async def set_uses(
    tx: Connection, pipeline: Pipeline, transformations: Sequence[UUID], connectors: Mapping[str, Connector]
) -> None:
    """What the newest version uses, in place of what the one before did; connectors by the name as written."""
    for table in ("transformation_uses", "connector_uses"):
        await tx.execute(f"DELETE FROM scheduler.{table} WHERE pipeline_id = $1", pipeline.id)
    await tx.executemany(
        "INSERT INTO scheduler.transformation_uses (pipeline_id, workspace_id, transformation_id) VALUES ($1, $2, $3)",
        [(pipeline.id, pipeline.workspace_id, id_) for id_ in transformations],
    )
    await tx.executemany(
        """INSERT INTO scheduler.connector_uses (pipeline_id, workspace_id, written, connector_id)
           VALUES ($1, $2, $3, $4)""",
        [(pipeline.id, pipeline.workspace_id, name, connector.id) for name, connector in connectors.items()],
    )


async def using_transformation(tx: Connection, workspace: UUID, transformation: UUID) -> Sequence[Pipeline]:
    statement = """
        SELECT p.* FROM scheduler.pipelines p JOIN scheduler.transformation_uses u ON u.pipeline_id = p.id
        WHERE p.workspace_id = $1 AND u.transformation_id = $2 ORDER BY p.name"""
    return [pipeline_of(row) for row in await tx.fetch(statement, workspace, transformation)]


async def using_connector(tx: Connection, workspace: UUID, connector: UUID) -> Sequence[Pipeline]:
    """Locked, because what becomes of their state depends on it."""
    statement = """
        SELECT * FROM scheduler.pipelines WHERE workspace_id = $1 AND id IN
            (SELECT pipeline_id FROM scheduler.connector_uses WHERE connector_id = $2)
        ORDER BY id FOR UPDATE"""
    return [pipeline_of(row) for row in await tx.fetch(statement, workspace, connector)]


def written(definition: PipelineDefinition) -> dict[str, Any]:
    """Only what its author said: defaults stay the platform's."""
    return definition.model_dump(mode="json", exclude_unset=True)


def unknown(reference: str) -> NotFound:
    return NotFound("pipeline-unknown", f"There is no pipeline {reference!r} in this workspace.")


async def _keep_version(tx: Connection, workspace: UUID, id_: UUID, author: Author) -> None:
    statement = """
        INSERT INTO scheduler.pipeline_versions (pipeline_id, version, workspace_id, definition, created_at, created_by)
        SELECT id, version, workspace_id, definition, updated_at, $3 FROM scheduler.pipelines
        WHERE workspace_id = $1 AND id = $2"""
    await tx.execute(statement, workspace, id_, author.user_id)


def _plain(changes: Sequence[DestinationDifference]) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json") for one in changes]


def _changes(held: list[dict[str, Any]]) -> tuple[DestinationDifference, ...]:
    return tuple(DestinationDifference.model_validate(one) for one in held)


def _taken(name: str) -> Conflict:
    return Conflict("already-exists", f"There is already a pipeline named {name!r} in this workspace.")


def _shown(row: Record) -> Shown:
    return Shown(pipeline_of(row), row["next_run_at"], row["last_run"], row["trigger_problems"])


def pipeline_of(row: Record) -> Pipeline:
    return Pipeline(
        id=row["id"],
        workspace_id=row["workspace_id"],
        name=row["name"],
        version=row["version"],
        model=PipelineDefinition,
        written=row["definition"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        created_by=row["created_by"],
        status=Status(row["status"]),
        status_reason=row["status_reason"],
        active_since=row["active_since"],
        waiting=_changes(row["waiting_changes"]),
        approved=_changes(row["approved_changes"]),
        expected_by=row["expected_by"],
        late_since=row["late_since"],
    )
