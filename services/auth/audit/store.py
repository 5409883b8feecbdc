"""Audit store: all SQL over the chain."""

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

from dataaggregator.db import Connection

from .domain import Link

_LOCK = 0x6175646974  # "audit": one appender at a time, else two links would follow the same one


async def last_link(tx: Connection) -> Link | None:
    """The end of the chain, which stays the end until this transaction is over."""
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    row = await tx.fetchrow("SELECT position, previous, content, digest FROM auth.audit ORDER BY position DESC LIMIT 1")
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


async def links(tx: Connection) -> AsyncIterator[Link]:
    """The whole chain from its beginning."""
    async for row in tx.cursor("SELECT position, previous, content, digest FROM auth.audit ORDER BY position"):
        yield Link(**dict(row))
