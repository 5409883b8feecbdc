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


@dataclass(frozen=True)
class ParkedEvent(Parked):
    """With the event itself, which may be large."""

    event: dict[str, Any]


COLUMNS = "event_id, workspace_id, type, source, subject, sequence, tries, code, reason, parked_at"


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


@dataclass(frozen=True)
class Place:
    """A parked event's place in the order of all services' ones: newest first; id and schema decide among equals."""

    parked_at: datetime
    event_id: UUID
    schema: str


async def list_parked(
    tx: Connection,
    schema: str,
    *,
    workspace: UUID | None = None,
    kind: str | None = None,
    after: Place | None = None,
    limit: int = 50,
) -> Sequence[Parked]:
    """Newest first, from `after` on, without the events themselves; `workspace` None is all of them, `kind` an event
    type or `run.*`."""
    rows = await tx.fetch(
        f"""SELECT {COLUMNS} FROM {quote(schema)}.parked
            WHERE ($2::uuid IS NULL OR workspace_id = $2)
              AND ($3::text IS NULL OR type = $3 OR (right($3, 1) = '*' AND starts_with(type, left($3, -1))))
              AND ($5::timestamptz IS NULL OR (parked_at, event_id, $4::text) < ($5, $6::uuid, $7::text))
            ORDER BY parked_at DESC, event_id DESC LIMIT $1""",
        limit,
        workspace,
        kind,
        schema,
        *((None, None, None) if after is None else (after.parked_at, after.event_id, after.schema)),
    )
    return [Parked(**dict(row)) for row in rows]


async def show(tx: Connection, schema: str, event_id: UUID, *, workspace: UUID | None = None) -> ParkedEvent:
    """One parked event; NotFound if it is not parked here, or not of this workspace."""
    row = await tx.fetchrow(
        f"""SELECT {COLUMNS}, event FROM {quote(schema)}.parked
            WHERE event_id = $1 AND ($2::uuid IS NULL OR workspace_id = $2)""",
        event_id,
        workspace,
    )
    if row is None:
        raise NotFound("not-found", f"No parked event {event_id}.")
    return ParkedEvent(**dict(row))


async def replay(tx: Connection, schema: str, event_id: UUID, *, workspace: UUID | None = None) -> None:
    """Let a parked event try again, with all its tries; NotFound if it is not parked here, or not of this workspace."""
    moved = await tx.fetchval(
        f"""WITH freed AS (
                DELETE FROM {quote(schema)}.parked WHERE event_id = $1 AND ($2::uuid IS NULL OR workspace_id = $2)
                RETURNING event_id, workspace_id, source, subject, sequence, event, code, reason)
            INSERT INTO {quote(schema)}.retries
                (event_id, workspace_id, source, subject, sequence, event, code, reason, tries, due_at)
            SELECT *, 0, clock_timestamp() FROM freed
            ON CONFLICT (event_id) DO UPDATE SET tries = 0, due_at = excluded.due_at
            RETURNING event_id""",
        event_id,
        workspace,
    )
    if moved is None:
        raise NotFound("not-found", f"No parked event {event_id}.")
    after_commit(tx, waker(retries_topic(schema)))
