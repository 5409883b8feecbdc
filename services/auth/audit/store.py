"""Audit store: all SQL over the chain."""

from collections.abc import AsyncIterator, Sequence
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


async def add_links(tx: Connection, workspace: UUID, links: Sequence[tuple[Link, datetime]]) -> None:
    """Each with the time of what it tells of."""
    await tx.execute(
        """INSERT INTO auth.audit (position, workspace_id, at, content, previous, digest)
           SELECT position, $1, at, content, previous, digest
           FROM unnest($2::bigint[], $3::timestamptz[], $4::bytea[], $5::bytea[], $6::bytea[])
               AS l (position, at, content, previous, digest)""",
        workspace,
        [one.position for one, _ in links],
        [at for _, at in links],
        [one.content for one, _ in links],
        [one.previous for one, _ in links],
        [one.digest for one, _ in links],
    )


async def links(tx: Connection, workspace: UUID) -> AsyncIterator[Link]:
    """A workspace's whole chain from its beginning."""
    query = "SELECT position, previous, content, digest FROM auth.audit WHERE workspace_id = $1 ORDER BY position"
    async for row in tx.cursor(query, workspace):
        yield Link(**dict(row))
