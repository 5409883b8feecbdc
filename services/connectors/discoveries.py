"""Connectors, store: discoveries asked for, and the streams the last good one found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from asyncpg import Record

from dataaggregator.db import Connection
from dataaggregator.db.keyset import Keyset
from dataaggregator.http.paging import PageQuery
from dataaggregator.ids import new_id
from services.connectors.domain import Connector

STREAMS = Keyset({"name": str}, default="name", tie=("connector_id", UUID))


@dataclass(frozen=True)
class Discovery:
    """A wish to know a connector's streams; `problem` is why it could not be done."""

    id: UUID
    workspace_id: UUID
    connector_id: UUID
    requested_at: datetime
    claimed_until: datetime | None
    finished_at: datetime | None
    problem: Mapping[str, Any] | None

    @property
    def status(self) -> Literal["queued", "running", "succeeded", "failed"]:
        if self.finished_at is not None:
            return "failed" if self.problem else "succeeded"
        return "running" if self.claimed_until else "queued"


async def request(tx: Connection, connector: Connector) -> Discovery:
    """A new one, unless one is under way: then that is the answer. The caller has locked the connector."""
    statement = """
        INSERT INTO connectors.discoveries AS old (connector_id, id, workspace_id, requested_at)
        VALUES ($1, $2, $3, now())
        ON CONFLICT (connector_id) DO UPDATE SET id = excluded.id, requested_at = excluded.requested_at,
            claimed_until = NULL, finished_at = NULL, problem = NULL
        WHERE old.finished_at IS NOT NULL"""
    await tx.execute(statement, connector.id, new_id(), connector.workspace_id)
    [row] = await tx.fetch("SELECT * FROM connectors.discoveries WHERE connector_id = $1", connector.id)
    return _discovery(row)


async def find(tx: Connection, connector: Connector) -> Discovery | None:
    """The one asked for last."""
    statement = "SELECT * FROM connectors.discoveries WHERE workspace_id = $1 AND connector_id = $2"
    row = await tx.fetchrow(statement, connector.workspace_id, connector.id)
    return _discovery(row) if row is not None else None


async def claim(tx: Connection, seconds: float) -> Discovery | None:
    """One that nobody works on, ours for so long; one whose process died comes back by itself."""
    statement = """
        UPDATE connectors.discoveries SET claimed_until = now() + make_interval(secs => $1)
        WHERE connector_id = (
            SELECT connector_id FROM connectors.discoveries
            WHERE finished_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
            ORDER BY requested_at LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING *"""
    row = await tx.fetchrow(statement, seconds)
    return _discovery(row) if row is not None else None


async def finish(tx: Connection, discovery: Discovery, problem: Mapping[str, Any] | None) -> bool:
    """Whether it still counts: False if another one was asked for meanwhile, or the connector changed."""
    # The connector first, as whoever asks for a discovery does: the other way round the two would wait for each other.
    await tx.execute(
        "SELECT FROM connectors.connectors WHERE workspace_id = $1 AND id = $2 FOR KEY SHARE",
        discovery.workspace_id,
        discovery.connector_id,
    )
    statement = """
        UPDATE connectors.discoveries SET finished_at = now(), problem = $3
        WHERE workspace_id = $1 AND id = $2 AND finished_at IS NULL"""
    return await tx.execute(statement, discovery.workspace_id, discovery.id, problem) == "UPDATE 1"


async def set_streams(tx: Connection, discovery: Discovery, streams: Sequence[Mapping[str, Any]]) -> None:
    """In place of all that were known."""
    owner = (discovery.workspace_id, discovery.connector_id)
    await tx.execute("DELETE FROM connectors.streams WHERE workspace_id = $1 AND connector_id = $2", *owner)
    await tx.executemany(
        """INSERT INTO connectors.streams (workspace_id, connector_id, name, stream, discovered_at)
           VALUES ($1, $2, $3, $4, now()) ON CONFLICT DO NOTHING""",
        [(*owner, stream["name"], dict(stream)) for stream in streams],
    )


async def list_page(
    tx: Connection, connector: Connector, query: PageQuery
) -> tuple[Sequence[Mapping[str, Any]], str | None]:
    part = STREAMS.slice(query.sort, query.cursor, after=2)
    statement = f"""
        SELECT * FROM connectors.streams WHERE workspace_id = $1 AND connector_id = $2 {part.where}"""
    page, cursor = await part.fetch(tx, statement, connector.workspace_id, connector.id, limit=query.limit)
    return [row["stream"] | {"discovered_at": row["discovered_at"]} for row in page], cursor


def _discovery(row: Record) -> Discovery:
    return Discovery(**dict(row))
