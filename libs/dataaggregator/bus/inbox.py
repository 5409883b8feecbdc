"""The bus: all SQL of the receiving side: inbox, positions, retries."""

from dataclasses import dataclass
from functools import cache
from uuid import UUID

from dataaggregator.bus.signals import retries_topic, waker
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, after_commit, quote


@dataclass(frozen=True)
class Waiting:
    """A retry row that is due."""

    event: Event
    tries: int
    code: str


async def add(tx: Connection, schema: str, event: Event) -> bool:
    """Write down that this event is applied by this transaction; False if it already was, by another one."""
    added = await tx.fetchval(
        _add(schema), event.id, event.workspace_id, event.type, event.source, event.subject, event.sequence
    )
    return added is not None


@cache
def _add(schema: str) -> str:
    return f"""INSERT INTO {quote(schema)}.inbox (event_id, workspace_id, type, source, subject, sequence)
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (event_id) DO NOTHING RETURNING event_id"""


async def position(tx: Connection, schema: str, event: Event) -> int:
    """The last sequence applied of the event's subject, locked until the transaction ends."""
    found: int = await tx.fetchval(_position(schema), event.source, event.subject, event.workspace_id)
    return found


@cache
def _position(schema: str) -> str:
    # The update changes nothing: it takes the lock also when the row is there.
    return f"""INSERT INTO {quote(schema)}.subject_positions AS p (source, subject, workspace_id, last_sequence)
               VALUES ($1, $2, $3, 0)
               ON CONFLICT (source, subject) DO UPDATE SET last_sequence = p.last_sequence
               RETURNING last_sequence"""


async def advance(tx: Connection, schema: str, event: Event) -> None:
    """The event is applied: those of its subject that wait and follow without a gap may go, a parked next one too."""
    freed = await tx.fetchval(_advance(schema), event.source, event.subject, event.sequence)
    if freed:
        after_commit(tx, waker(retries_topic(schema)))


@cache
def _advance(schema: str) -> str:
    name = quote(schema)
    return f"""
        WITH moved AS (
            UPDATE {name}.subject_positions SET last_sequence = $3 WHERE source = $1 AND subject = $2
        ), due AS (
            UPDATE {name}.retries AS r SET due_at = clock_timestamp()
            FROM (SELECT event_id, sequence - row_number() OVER (ORDER BY sequence) AS before
                  FROM {name}.retries WHERE source = $1 AND subject = $2 AND sequence > $3) AS waiting
            WHERE r.event_id = waiting.event_id AND waiting.before = $3 AND r.code = 'sequence-gap'
              AND r.due_at > clock_timestamp()
            RETURNING r.event_id
        ), freed AS (
            DELETE FROM {name}.parked
            WHERE source = $1 AND subject = $2 AND sequence = $3 + 1 AND code = 'sequence-gap'
            RETURNING event_id, workspace_id, source, subject, sequence, event, code, reason
        ), again AS (
            INSERT INTO {name}.retries
                (event_id, workspace_id, source, subject, sequence, event, code, reason, tries, due_at)
            SELECT *, 0, clock_timestamp() FROM freed ON CONFLICT (event_id) DO NOTHING RETURNING event_id
        )
        SELECT (SELECT count(*) FROM due) + (SELECT count(*) FROM again)"""


async def retry(
    tx: Connection, schema: str, event: Event, *, tries: int, why: tuple[str, str], after_seconds: float
) -> None:
    """Write the retry row, or the next time into the one that is there."""
    await tx.execute(
        f"""INSERT INTO {quote(schema)}.retries
                (event_id, workspace_id, source, subject, sequence, event, tries, code, reason, due_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp() + make_interval(secs => $10))
            ON CONFLICT (event_id) DO UPDATE SET tries = excluded.tries, code = excluded.code,
                reason = excluded.reason, due_at = excluded.due_at""",
        event.id,
        event.workspace_id,
        event.source,
        event.subject,
        event.sequence,
        event.cloudevent(),
        tries,
        *why,
        after_seconds,
    )
    after_commit(tx, waker(retries_topic(schema)))


async def settle(tx: Connection, schema: str, event_id: UUID) -> None:
    """The event waits no more."""
    await tx.execute(f"DELETE FROM {quote(schema)}.retries WHERE event_id = $1", event_id)


async def claim_due(tx: Connection, schema: str, *, limit: int, lease_seconds: float) -> list[Waiting]:
    """Retry rows that are due, in the order of their subjects; for so long nobody else claims them.

    The try is counted by the claim, so that one that ends the process is counted too.
    """
    rows = await tx.fetch(
        f"""UPDATE {quote(schema)}.retries SET tries = tries + 1, due_at = clock_timestamp() + make_interval(secs => $2)
            WHERE event_id IN (
                SELECT event_id FROM {quote(schema)}.retries WHERE due_at <= clock_timestamp()
                ORDER BY due_at FOR UPDATE SKIP LOCKED LIMIT $1)
            RETURNING event, tries, code, source, subject, sequence""",
        limit,
        lease_seconds,
    )
    rows.sort(key=lambda row: (row["source"], row["subject"], row["sequence"]))
    return [Waiting(Event.from_cloudevent(row["event"]), row["tries"], row["code"]) for row in rows]


async def next_due_seconds(tx: Connection, schema: str) -> float | None:
    """Until the next retry is due; None if none waits."""
    found: float | None = await tx.fetchval(
        f"SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM {quote(schema)}.retries"
    )
    return found
