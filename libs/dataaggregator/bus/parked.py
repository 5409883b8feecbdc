"""The bus: events set aside for a person: list, show, replay."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.bus.signals import retries_topic, waker
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, after_commit, quote
from dataaggregator.errors import NotFound


@dataclass(frozen=True)
class Parked:
    """One event that could not be applied, and why."""

    event_id: UUID
    workspace_id: UUID
    type: str
    source: str
    subject: str
    sequence: int
    tries: int
    code: str
    reason: str
    parked_at: datetime
    event: dict[str, Any]


COLUMNS = "event_id, workspace_id, type, source, subject, sequence, tries, code, reason, parked_at, event"


async def park(tx: Connection, schema: str, event: Event, *, tries: int, why: tuple[str, str]) -> None:
    """Set an event aside; it waits no more."""
    await tx.execute(
        f"""INSERT INTO {quote(schema)}.parked
                (event_id, workspace_id, type, source, subject, sequence, event, tries, code, reason)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            ON CONFLICT (event_id) DO UPDATE SET tries = excluded.tries, code = excluded.code,
                reason = excluded.reason, parked_at = excluded.parked_at""",
        event.id,
        event.workspace_id,
        event.type,
        event.source,
        event.subject,
        event.sequence,
        event.cloudevent(),
        tries,
        *why,
    )
    await tx.execute(f"DELETE FROM {quote(schema)}.retries WHERE event_id = $1", event.id)


async def list_parked(
    tx: Connection, schema: str, *, limit: int = 50, before: datetime | None = None
) -> Sequence[Parked]:
    """Newest first."""
    rows = await tx.fetch(
        f"""SELECT {COLUMNS} FROM {quote(schema)}.parked
            WHERE $2::timestamptz IS NULL OR parked_at < $2 ORDER BY parked_at DESC, event_id LIMIT $1""",
        limit,
        before,
    )
    return [Parked(**dict(row)) for row in rows]


async def show(tx: Connection, schema: str, event_id: UUID) -> Parked:
    """One parked event; NotFound if it is not parked here."""
    row = await tx.fetchrow(f"SELECT {COLUMNS} FROM {quote(schema)}.parked WHERE event_id = $1", event_id)
    if row is None:
        raise NotFound("not-found", f"No parked event {event_id}.")
    return Parked(**dict(row))


async def replay(tx: Connection, schema: str, event_id: UUID) -> None:
    """Let a parked event try again, with all its tries; NotFound if it is not parked here."""
    moved = await tx.fetchval(
        f"""WITH freed AS (
                DELETE FROM {quote(schema)}.parked WHERE event_id = $1
                RETURNING event_id, workspace_id, source, subject, sequence, event, code, reason)
            INSERT INTO {quote(schema)}.retries
                (event_id, workspace_id, source, subject, sequence, event, code, reason, tries, due_at)
            SELECT *, 0, clock_timestamp() FROM freed
            ON CONFLICT (event_id) DO UPDATE SET tries = 0, due_at = excluded.due_at
            RETURNING event_id""",
        event_id,
    )
    if moved is None:
        raise NotFound("not-found", f"No parked event {event_id}.")
    after_commit(tx, waker(retries_topic(schema)))
