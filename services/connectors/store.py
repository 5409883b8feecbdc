"""Connectors, store: all SQL of connectors, their sealed secrets, tests and uses."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Record, UniqueViolationError

from dataaggregator.contracts.connector import ConnectorDefinition
from dataaggregator.db import Connection
from dataaggregator.db.keyset import Keyset
from dataaggregator.definition import Author, key
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.http.paging import PageQuery
from services.connectors.domain import Connector

SORTS = Keyset({"name": str, "type": str, "created_at": datetime, "updated_at": datetime}, default="name")


async def add(tx: Connection, workspace: UUID, id_: UUID, definition: ConnectorDefinition, author: Author) -> Connector:
    """Raises Conflict if the name is taken."""
    statement = """
        INSERT INTO connectors.connectors
            (id, workspace_id, name, type, version, config, concurrency, created_at, updated_at, created_by)
        VALUES ($1, $2, $3, $4, 1, $5, $6, now(), now(), $7) RETURNING *"""
    given = (definition.name, definition.type, definition.config, definition.concurrency)
    try:
        [row] = await tx.fetch(statement, id_, workspace, *given, author.user_id)
    except UniqueViolationError:
        raise _taken(definition.name) from None
    return _connector(row)


async def save(tx: Connection, before: Connector, definition: ConnectorDefinition) -> Connector:
    """A new version of a connector that `get` has locked."""
    statement = """
        UPDATE connectors.connectors SET name = $3, config = $4, concurrency = $5, version = version + 1,
            updated_at = now()
        WHERE workspace_id = $1 AND id = $2 RETURNING *"""
    wanted = (definition.name, definition.config, definition.concurrency)
    try:
        [row] = await tx.fetch(statement, before.workspace_id, before.id, *wanted)
    except UniqueViolationError:
        raise _taken(definition.name) from None
    return _connector(row)


async def get(tx: Connection, workspace: UUID, reference: str, *, lock: bool = False) -> Connector:
    """By id or name; raises NotFound."""
    column, value = key(reference)
    statement = f"SELECT * FROM connectors.connectors WHERE workspace_id = $1 AND {column} = $2"
    row = await tx.fetchrow(statement + (" FOR UPDATE" if lock else ""), workspace, value)
    if row is None:
        raise NotFound("connector-unknown", f"There is no connector {reference!r} in this workspace.")
    return _connector(row)


async def named(tx: Connection, workspace: UUID, names: Collection[str]) -> dict[str, Connector]:
    """Those of these names there are, locked."""
    statement = "SELECT * FROM connectors.connectors WHERE workspace_id = $1 AND name = ANY($2) ORDER BY id FOR UPDATE"
    return {row["name"]: _connector(row) for row in await tx.fetch(statement, workspace, list(names))}


async def list_page(
    tx: Connection, workspace: UUID, type_: str | None, query: PageQuery
) -> tuple[Sequence[Connector], str | None]:
    part = SORTS.slice(query.sort, query.cursor, after=2)
    statement = f"""
        SELECT * FROM connectors.connectors WHERE workspace_id = $1 AND ($2::text IS NULL OR type = $2)
        {part.where}"""
    page, cursor = await part.fetch(tx, statement, workspace, type_, limit=query.limit)
    return [_connector(row) for row in page], cursor


async def remove(tx: Connection, connector: Connector) -> None:
    statement = "DELETE FROM connectors.connectors WHERE workspace_id = $1 AND id = $2"
    await tx.execute(statement, connector.workspace_id, connector.id)


async def times_kept(tx: Connection, connector: Connector) -> int:
    """How often it was asked to stay."""
    statement = "SELECT kept FROM connectors.connectors WHERE workspace_id = $1 AND id = $2"
    kept: int = await tx.fetchval(statement, connector.workspace_id, connector.id)
    return kept


async def keep(tx: Connection, workspace: UUID, connectors: Sequence[UUID]) -> Sequence[UUID]:
    """Those that are there, each asked to stay; waits for a deletion that is about to be committed."""
    statement = "UPDATE connectors.connectors SET kept = kept + 1 WHERE workspace_id = $1 AND id = ANY($2) RETURNING id"
    return [row["id"] for row in await tx.fetch(statement, workspace, sorted(connectors))]


async def secrets(tx: Connection, connector: Connector) -> Mapping[str, bytes]:
    """Sealed, by field."""
    statement = "SELECT field, sealed FROM connectors.secrets WHERE workspace_id = $1 AND connector_id = $2"
    return {row["field"]: row["sealed"] for row in await tx.fetch(statement, connector.workspace_id, connector.id)}


async def set_secrets(tx: Connection, connector: Connector, sealed: Mapping[str, bytes]) -> None:
    """In place of all there were."""
    owner = (connector.workspace_id, connector.id)
    await tx.execute("DELETE FROM connectors.secrets WHERE workspace_id = $1 AND connector_id = $2", *owner)
    await tx.executemany(
        "INSERT INTO connectors.secrets (workspace_id, connector_id, field, sealed) VALUES ($1, $2, $3, $4)",
        [(*owner, at, secret) for at, secret in sealed.items()],
    )


async def forget_found(tx: Connection, connector: Connector) -> None:
    """What was found behind another configuration says nothing about this one."""
    for table in ("streams", "discoveries", "tests"):
        statement = f"DELETE FROM connectors.{table} WHERE workspace_id = $1 AND connector_id = $2"
        await tx.execute(statement, connector.workspace_id, connector.id)


async def save_test(tx: Connection, connector: Connector, ok: bool, checks: Sequence[Mapping[str, Any]]) -> None:
    await tx.execute(
        """
        INSERT INTO connectors.tests (connector_id, workspace_id, connector_version, ok, checks, tested_at)
        VALUES ($1, $2, $3, $4, $5, now()) ON CONFLICT (connector_id) DO UPDATE SET
            connector_version = excluded.connector_version, ok = excluded.ok, checks = excluded.checks,
            tested_at = excluded.tested_at""",
        connector.id,
        connector.workspace_id,
        connector.version,
        ok,
        list(checks),
    )


async def set_uses(tx: Connection, workspace: UUID, pipeline: UUID, name: str, connectors: Sequence[UUID]) -> None:
    await remove_uses(tx, workspace, pipeline)
    await tx.executemany(
        "INSERT INTO connectors.uses (workspace_id, pipeline_id, pipeline_name, connector_id) VALUES ($1, $2, $3, $4)",
        [(workspace, pipeline, name, connector) for connector in connectors],
    )


async def remove_uses(tx: Connection, workspace: UUID, pipeline: UUID) -> None:
    await tx.execute("DELETE FROM connectors.uses WHERE workspace_id = $1 AND pipeline_id = $2", workspace, pipeline)


async def used_by(tx: Connection, connector: Connector) -> Sequence[str]:
    """The names of the pipelines that use it."""
    statement = """
        SELECT pipeline_name FROM connectors.uses WHERE workspace_id = $1 AND connector_id = $2
        ORDER BY pipeline_name"""
    return [row["pipeline_name"] for row in await tx.fetch(statement, connector.workspace_id, connector.id)]


def _taken(name: str) -> Conflict:
    return Conflict("already-exists", f"There is already a connector named {name!r} in this workspace.")


def _connector(row: Record) -> Connector:
    return Connector(
        id=row["id"],
        workspace_id=row["workspace_id"],
        name=row["name"],
        version=row["version"],
        model=ConnectorDefinition,
        written={
            "name": row["name"],
            "type": row["type"],
            "config": row["config"],
            "concurrency": row["concurrency"],
        },
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        created_by=row["created_by"],
    )
