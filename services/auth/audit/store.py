"""Audit store: all SQL over the chain and its signed heads."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from dataaggregator.db import Connection
from dataaggregator.db.pages import fetch_page

from .domain import ANCHOR_KIND, FILED, HEAD_KIND, Entry, Head, Link

_LOCK = 0x61756469  # "audi": one appender at a time, else two links would follow the same one
_COLUMNS = f"workspace_id, at, position, previous, content, digest, {', '.join(FILED)}"

_CHAINS = """WITH RECURSIVE chains AS (
               (SELECT workspace_id FROM auth.audit ORDER BY workspace_id LIMIT 1)
               UNION ALL
               SELECT (SELECT workspace_id FROM auth.audit a WHERE a.workspace_id > c.workspace_id
                       ORDER BY workspace_id LIMIT 1)
               FROM chains c WHERE c.workspace_id IS NOT NULL)"""


@dataclass(frozen=True)
class Wanted:
    """Which entries; None does not narrow. `action` may end in `*`; `actor` is an id or an e-mail."""

    actor: str | None = None
    api_key: str | None = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    service: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Place:
    """Where a page goes on: newest first, and among equals by chain and position."""

    at: datetime
    workspace_id: UUID
    position: int


_CONDITIONS = {
    "actor": "{} IN (actor, actor_id)",
    "api_key": "api_key_id = {}",
    "action": "action LIKE {}",
    "resource_type": "resource_type = {}",
    "resource_id": "resource_id = {}",
    "service": "service = {}",
    "since": "at >= {}",
    "until": "at < {}",
}


async def last_link(tx: Connection, workspace: UUID) -> Link | None:
    """The end of a workspace's chain, which stays the end until this transaction is over."""
    await tx.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK, str(workspace))
    row = await tx.fetchrow(
        """SELECT position, previous, content, digest FROM auth.audit
           WHERE workspace_id = $1 ORDER BY position DESC LIMIT 1""",
        workspace,
    )
    return Link(**dict(row)) if row else None


async def add(tx: Connection, entries: Sequence[Entry]) -> None:
    await tx.executemany(
        f"INSERT INTO auth.audit ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        [(one.workspace_id, one.at, *astuple(one.link), *one.filed) for one in entries],
    )


async def chain(tx: Connection, workspace: UUID, *, after: int = 0, limit: int = 1000) -> Sequence[Entry]:
    """Some of a workspace's chain from a position on, oldest first; none where it ends."""
    statement = f"SELECT {_COLUMNS} FROM auth.audit WHERE workspace_id = $1 AND position > $2"
    page = await fetch_page(tx, statement, "position", workspace, after, limit=limit)
    return [_entry(row) for row in page.rows]


async def newest(
    tx: Connection, workspaces: Sequence[UUID], wanted: Wanted, after: Place | None, limit: int
) -> tuple[Sequence[Entry], bool]:
    """Newest first, of several chains; and whether there are more."""
    arguments: list[object] = [workspaces]
    conditions = ["workspace_id = ANY($1)"]
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            arguments.append(_like(value) if name == "action" else value)
            conditions.append(condition.format(f"${len(arguments)}"))
    if after is not None:
        first = len(arguments) + 1
        arguments += [after.at, after.workspace_id, after.position]
        conditions.append(f"(at, workspace_id, position) < (${first}, ${first + 1}, ${first + 2})")
    statement = f"SELECT {_COLUMNS} FROM auth.audit WHERE {' AND '.join(conditions)}"
    page = await fetch_page(tx, statement, "at DESC, workspace_id DESC, position DESC", *arguments, limit=limit)
    return [_entry(row) for row in page.rows], page.more


async def ends(tx: Connection) -> Sequence[tuple[UUID, int, bytes]]:
    """Where each chain ends that has gone on since its last head: workspace, position, digest."""
    rows = await tx.fetch(
        f"""{_CHAINS}
           SELECT c.workspace_id, e.position, e.digest FROM chains c
           CROSS JOIN LATERAL (SELECT position, digest FROM auth.audit a WHERE a.workspace_id = c.workspace_id
                               ORDER BY position DESC LIMIT 1) e
           WHERE NOT EXISTS (SELECT FROM auth.audit_heads h
                             WHERE h.workspace_id = c.workspace_id AND h.position >= e.position)"""
    )
    return [(row["workspace_id"], row["position"], row["digest"]) for row in rows]


async def outlived(tx: Connection, before: datetime, limit: int) -> Sequence[tuple[UUID, int, bytes]]:
    """The last of the first entries of each chain that are older, so many of one at most; never its end."""
    rows = await tx.fetch(
        f"""{_CHAINS}
           SELECT c.workspace_id, e.position, e.digest FROM chains c
           CROSS JOIN LATERAL (
               SELECT position, digest FROM (
                   SELECT position, digest, bool_and(at < $1) OVER (ORDER BY position) AS old FROM (
                       SELECT position, digest, at FROM auth.audit a WHERE a.workspace_id = c.workspace_id
                       ORDER BY position LIMIT $2) first) beginning
               WHERE old AND position < (SELECT max(position) FROM auth.audit a WHERE a.workspace_id = c.workspace_id)
               ORDER BY position DESC LIMIT 1) e""",
        before,
        limit,
    )
    return [(row["workspace_id"], row["position"], row["digest"]) for row in rows]


async def drop(tx: Connection, anchor: Head, signature: bytes) -> int:
    """Drop a chain's beginning, the anchor's entry included; how many there were."""
    dropped: int = await tx.fetchval(
        "SELECT auth.drop_audit($1, $2, $3, $4, $5)",
        anchor.workspace_id,
        anchor.position,
        anchor.digest,
        anchor.signed_at,
        signature,
    )
    return dropped


async def add_head(tx: Connection, head: Head, signature: bytes) -> bool:
    """False if another replica was first."""
    added = await tx.fetchval(
        """INSERT INTO auth.audit_heads (workspace_id, position, digest, signed_at, signature)
           VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true""",
        head.workspace_id,
        head.position,
        head.digest,
        head.signed_at,
        signature,
    )
    return bool(added)


async def last_head(tx: Connection, workspace: UUID) -> tuple[Head, bytes] | None:
    """The newest head and its signature."""
    return await _newest(tx, workspace, "audit_heads", HEAD_KIND)


async def last_anchor(tx: Connection, workspace: UUID) -> tuple[Head, bytes] | None:
    """What the chain goes on from and its signature; None where nothing of it was dropped."""
    return await _newest(tx, workspace, "audit_anchors", ANCHOR_KIND)


async def _newest(tx: Connection, workspace: UUID, table: str, kind: str) -> tuple[Head, bytes] | None:
    row = await tx.fetchrow(
        f"""SELECT workspace_id, position, digest, signed_at, signature FROM auth.{table}
           WHERE workspace_id = $1 ORDER BY position DESC LIMIT 1""",
        workspace,
    )
    if row is None:
        return None
    return Head(row["workspace_id"], row["position"], row["digest"], row["signed_at"], kind), row["signature"]


async def contradicted(tx: Connection, workspace: UUID, after: int) -> int | None:
    """The first position behind `after` at which a head was signed and the chain is not, or not as it was."""
    found: int | None = await tx.fetchval(
        """SELECT min(h.position) FROM auth.audit_heads h LEFT JOIN auth.audit a USING (workspace_id, position)
           WHERE workspace_id = $1 AND h.position > $2 AND a.digest IS DISTINCT FROM h.digest""",
        workspace,
        after,
    )
    return found


async def digest_at(tx: Connection, workspace: UUID, position: int) -> bytes | None:
    found: bytes | None = await tx.fetchval(
        "SELECT digest FROM auth.audit WHERE workspace_id = $1 AND position = $2", workspace, position
    )
    return found


def _like(action: str) -> str:
    escaped = action.rstrip("*").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped + "%" if action.endswith("*") else escaped


def _entry(row: Record) -> Entry:
    link = Link(row["position"], row["previous"], row["content"], row["digest"])
    return Entry(row["workspace_id"], row["at"], link, tuple(row[name] for name in FILED))
