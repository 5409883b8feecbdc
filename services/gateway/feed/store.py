"""Feed store: all SQL over the feed."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, json_texts
from dataaggregator.db.pages import BYTES, fetch_page

from .domain import ABOUT_PEOPLE, Entry, Wanted

_APPENDER = 0x66656564  # "feed": one appender at a time, so that positions commit in their order
_COLUMNS = "position, workspace_id, type, subject, event"


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(row["position"], row["workspace_id"], row["type"], row["subject"], row["event"], row[BYTES])


async def append(tx: Connection, events: Sequence[Event], now: datetime) -> None:
    """Append; the lock is held until the commit, so a later position never shows before an earlier one."""
    await tx.execute(
        f"""WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock({_APPENDER}))
           INSERT INTO gateway.feed (event_id, workspace_id, type, subject, event, appended_at)
           SELECT e.event_id, e.workspace_id, e.type, e.subject, e.event::jsonb, $6
           FROM alone, unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
               AS e (event_id, workspace_id, type, subject, event, place)
           ORDER BY e.place""",
        [event.id for event in events],
        [event.workspace_id for event in events],
        [event.type for event in events],
        [event.subject for event in events],
        json_texts(event.cloudevent() for event in events),
        now,
    )


async def after(tx: Connection, position: int, limit: int) -> tuple[list[Entry], bool]:
    """The next entries of all workspaces, a page of them, and whether there are more."""
    page = await fetch_page(
        tx, f"SELECT {_COLUMNS} FROM gateway.feed WHERE position > $1", "position", position, limit=limit
    )
    return [_entry(row) for row in page.rows], page.more


async def wanted_after(
    tx: Connection, wanted: Wanted, position: int, until: int, limit: int
) -> tuple[list[Entry], bool]:
    """The next entries for one listener, up to and with `until`, a page of them, and whether there are more."""
    hidden = [] if wanted.about_people else [_like(f"{prefix}*") for prefix in ABOUT_PEOPLE]
    page = await fetch_page(
        tx,
        f"""SELECT {_COLUMNS} FROM gateway.feed
            WHERE workspace_id = $1 AND position > $2 AND position <= $3
              AND ($4::text IS NULL OR subject = $4)
              AND (cardinality($5::text[]) = 0 OR type LIKE ANY ($5))
              AND NOT type LIKE ANY ($6::text[])""",
        "position",
        wanted.workspace_id,
        position,
        until,
        wanted.subject,
        [_like(pattern) for pattern in wanted.types],
        hidden,
        limit=limit,
    )
    return [_entry(row) for row in page.rows], page.more


def _like(pattern: str) -> str:
    escaped = pattern.rstrip("*").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped + "%" if pattern.endswith("*") else escaped


async def newest(tx: Connection) -> int:
    """The highest position committed, also when the retention has removed its entry."""
    found = await tx.fetchval(
        "SELECT GREATEST((SELECT max(position) FROM gateway.feed), (SELECT position FROM gateway.feed_floor))"
    )
    return int(found)


async def floor(tx: Connection) -> int:
    """The highest position that the retention has removed."""
    return int(await tx.fetchval("SELECT position FROM gateway.feed_floor"))


async def remove_older(tx: Connection, limit: datetime, at_once: int) -> int:
    """Remove some entries appended before `limit`, the oldest first; answers how many."""
    rows = await tx.fetch(
        """DELETE FROM gateway.feed WHERE position IN (
               SELECT position FROM gateway.feed WHERE appended_at < $1 ORDER BY position LIMIT $2)
           RETURNING position""",
        limit,
        at_once,
    )
    if rows:
        highest = max(row["position"] for row in rows)
        await tx.execute("UPDATE gateway.feed_floor SET position = GREATEST(position, $1)", highest)
    return len(rows)
