"""Pipelines, projection: the connectors there are, as connector.* told us; the connectors service owns the truth."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
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
    """What these names or ids stand for; an old name is still understood in the pipeline that was saved with it.

    None of them can be let go before the caller's transaction has ended. It waits for nobody who tells of them, and
    they not for it: both have several in one transaction, each in an order of its own.
    """
    statement = """
        SELECT w.written, c.id, c.name, c.type
        FROM unnest($2::text[]) AS w (written)
        LEFT JOIN scheduler.connector_uses u ON u.pipeline_id = $3 AND u.written = w.written
        JOIN scheduler.connectors c ON c.workspace_id = $1 AND w.written IN (c.name, c.id::text)
            OR c.workspace_id = $1 AND c.id = u.connector_id
        WHERE c.leaving IS NULL
        ORDER BY (w.written IN (c.name, c.id::text))
        FOR KEY SHARE OF c"""
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


async def names_now(tx: Connection, workspace: UUID, pipelines: Collection[UUID]) -> dict[UUID, dict[str, str]]:
    """By pipeline: what its connectors were called when it was saved → what they are called now."""
    statement = """
        SELECT u.pipeline_id, u.written, c.name
        FROM scheduler.connector_uses u JOIN scheduler.connectors c ON c.id = u.connector_id
        WHERE u.workspace_id = $1 AND u.pipeline_id = ANY($2)"""
    found: dict[UUID, dict[str, str]] = defaultdict(dict)
    for row in await tx.fetch(statement, workspace, list(pipelines)):
        found[row["pipeline_id"]][row["written"]] = row["name"]
    return found


async def users(tx: Connection, workspace: UUID, id_: UUID) -> Sequence[str]:
    """The names of the pipelines that use it."""
    statement = """
        SELECT DISTINCT p.name FROM scheduler.pipelines p JOIN scheduler.connector_uses u ON u.pipeline_id = p.id
        WHERE u.workspace_id = $1 AND u.connector_id = $2 ORDER BY p.name"""
    return [row["name"] for row in await tx.fetch(statement, workspace, id_)]


async def set_leaving(tx: Connection, workspace: UUID, connector: Connector, token: UUID) -> None:
    """Waits for whoever is about to use it. It may not have been told of yet: then it is known as leaving only."""
    statement = """
        INSERT INTO scheduler.connectors (id, workspace_id, name, type, leaving) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (id) DO UPDATE SET leaving = excluded.leaving"""
    await tx.execute(statement, connector.id, workspace, connector.name, connector.type, token)
    mine = "SELECT 1 FROM scheduler.connectors WHERE workspace_id = $1 AND id = $2 FOR UPDATE"
    await tx.execute(mine, workspace, connector.id)


async def leaving(tx: Connection, workspace: UUID, written: Collection[str]) -> dict[UUID, UUID]:
    """Those of these names or ids that are leaving: id → token of the deletion that asked last."""
    statement = """
        SELECT id, leaving FROM scheduler.connectors
        WHERE workspace_id = $1 AND leaving IS NOT NULL AND (name = ANY($2) OR id::text = ANY($2))"""
    return {row["id"]: row["leaving"] for row in await tx.fetch(statement, workspace, list(written))}


async def expect(tx: Connection, workspace: UUID, connectors: Collection[Connector], token: UUID) -> None:
    """Those not heard of yet are known as leaving: their owner is about to save them, and says later that they stay.

    Were they known for good from here, one that is deleted before its first use would never go.
    """
    await tx.executemany(
        """INSERT INTO scheduler.connectors (id, workspace_id, name, type, leaving) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (id) DO NOTHING""",
        [(one.id, workspace, one.name, one.type, token) for one in connectors],
    )


async def forget(tx: Connection, workspace: UUID, tokens: Mapping[UUID, UUID]) -> None:
    """Expected ones that their owner has refused, or does not have: they never were."""
    await tx.executemany(
        "DELETE FROM scheduler.connectors WHERE workspace_id = $1 AND id = $2 AND leaving = $3",
        [(workspace, id_, token) for id_, token in tokens.items()],
    )


async def stay(tx: Connection, workspace: UUID, tokens: Mapping[UUID, UUID]) -> None:
    """Not leaving after all, unless another deletion has asked since."""
    await tx.executemany(
        "UPDATE scheduler.connectors SET leaving = NULL WHERE workspace_id = $1 AND id = $2 AND leaving = $3",
        [(workspace, id_, token) for id_, token in tokens.items()],
    )
