"""Pipelines, projection: the connectors there are, as connector.* told us; the connectors service owns the truth."""

from collections.abc import Collection
from uuid import UUID

from dataaggregator.contracts.connector import ConnectorCreated, ConnectorUpdated
from dataaggregator.db import Connection
from services.scheduler.pipelines.domain import Connector


async def save(tx: Connection, workspace: UUID, told: ConnectorCreated | ConnectorUpdated) -> None:
    statement = """
        INSERT INTO scheduler.connectors (id, workspace_id, name, type) VALUES ($1, $2, $3, $4)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, type = excluded.type"""
    await tx.execute(statement, told.connector_id, workspace, told.name, told.type)


async def remove(tx: Connection, workspace: UUID, id_: UUID) -> None:
    await tx.execute("DELETE FROM scheduler.connectors WHERE workspace_id = $1 AND id = $2", workspace, id_)


async def named(
    tx: Connection, workspace: UUID, written: Collection[str], pipeline: UUID | None = None
) -> dict[str, Connector]:
    """What these names or ids stand for; an old name is still understood in the pipeline that was saved with it."""
    statement = """
        SELECT w.written, c.id, c.name, c.type
        FROM unnest($2::text[]) AS w (written)
        LEFT JOIN scheduler.connector_uses u ON u.pipeline_id = $3 AND u.written = w.written
        JOIN scheduler.connectors c ON c.workspace_id = $1 AND w.written IN (c.name, c.id::text)
            OR c.workspace_id = $1 AND c.id = u.connector_id
        ORDER BY (w.written IN (c.name, c.id::text))"""
    rows = await tx.fetch(statement, workspace, list(written), pipeline)
    return {row["written"]: Connector(row["id"], row["name"], row["type"]) for row in rows}


async def used(tx: Connection, workspace: UUID, pipeline: UUID) -> dict[str, Connector]:
    """The connectors of a saved pipeline, by what they were called when it was saved."""
    statement = """
        SELECT u.written, c.id, c.name, c.type
        FROM scheduler.connector_uses u JOIN scheduler.connectors c ON c.id = u.connector_id
        WHERE u.workspace_id = $1 AND u.pipeline_id = $2"""
    rows = await tx.fetch(statement, workspace, pipeline)
    return {row["written"]: Connector(row["id"], row["name"], row["type"]) for row in rows}
