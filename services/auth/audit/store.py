"""Audit store: all SQL over the chain."""

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

from dataaggregator.db import Connection

from .domain import Link

_LOCK = 0x61756469  # "audi": one appender at a time, else two links would follow the same one


async def last_link(tx: Connection, workspace: UUID) -> Link | None:
    """The end of a workspace's chain, which stays the end until this transaction is over."""
    await tx.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK, str(workspace))
    row = await tx.fetchrow(
        """SELECT position, previous, content, digest FROM auth.audit
           WHERE workspace_id = $1 ORDER BY position DESC LIMIT 1""",
        workspace,
    )
    return Link(**dict(row)) if row else None


async def add_link(tx: Connection, link: Link, workspace: UUID, at: datetime) -> None:
    await tx.execute(
        """INSERT INTO auth.audit (position, workspace_id, at, content, previous, digest)
           VALUES ($1, $2, $3, $4, $5, $6)""",
        link.position,
        workspace,
        at,
        link.content,
        link.previous,
        link.digest,
    )


async def links(tx: Connection, workspace: UUID) -> AsyncIterator[Link]:
    """A workspace's whole chain from its beginning."""
    query = "SELECT position, previous, content, digest FROM auth.audit WHERE workspace_id = $1 ORDER BY position"
    async for row in tx.cursor(query, workspace):
        yield Link(**dict(row))
