"""The bus: all SQL of the receiving side: inbox, positions, retries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dataaggregator.bus.signals import retries_topic, waker
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, after_commit, quote

if TYPE_CHECKING:
    import asyncpg

Subject = tuple[str, str]
"""Source and subject: what sequences count by."""


@dataclass(frozen=True)
class Waiting:
    """A retry row that is due, for the `tries`th time; in `gaps` of the tries its handler was not called.

    `unjudged` tries in a row, this one included, were begun and never judged so far. `gap` if all that it waited for is
    an earlier event of its subject.
    """

    event: Event
    tries: int
    gaps: int
    unjudged: int
    gap: bool


async def add(tx: Connection, schema: str, events: Sequence[Event], waited: Sequence[bool]) -> set[UUID]:
    """Write down that these are applied by this transaction; the ids of those that are its to apply.

    They are not if they were applied already, or have a retry row and do not come from there: copies, both.
    """
    rows = await tx.fetch(
        _add(schema),
        [event.id for event in events],
        [event.workspace_id for event in events],
        [event.type for event in events],
        [event.source for event in events],
        [event.subject for event in events],
        [event.sequence for event in events],
        waited,
    )
    return {row["event_id"] for row in rows}


@cache
def _add(schema: str) -> str:
    return f"""INSERT INTO {quote(schema)}.inbox (event_id, workspace_id, type, source, subject, sequence)
               SELECT id, workspace_id, type, source, subject, sequence
               FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bool[])
                   AS e (id, workspace_id, type, source, subject, sequence, waited)
               WHERE waited OR NOT EXISTS (SELECT 1 FROM {quote(schema)}.retries r WHERE r.event_id = e.id)
               ON CONFLICT (event_id) DO NOTHING RETURNING event_id"""


async def positions(tx: Connection, schema: str, events: Sequence[Event]) -> dict[Subject, int]:
    """The last sequence applied of each of the events' subjects, locked until the transaction ends."""
    subjects = sorted({(event.source, event.subject): event.workspace_id for event in events}.items())
    rows = await tx.fetch(
        _positions(schema),
        [source for (source, _), _ in subjects],
        [subject for (_, subject), _ in subjects],
        [workspace for _, workspace in subjects],
    )
    return {(row["source"], row["subject"]): row["last_sequence"] for row in rows}


@cache
def _positions(schema: str) -> str:
    # The update changes nothing: it takes the lock also when the row is there. In order, so that none waits in a ring.
    return f"""INSERT INTO {quote(schema)}.subject_positions AS p (source, subject, workspace_id, last_sequence)
               SELECT *, 0 FROM unnest($1::text[], $2::text[], $3::uuid[])
               ON CONFLICT (source, subject) DO UPDATE SET last_sequence = p.last_sequence
               RETURNING source, subject, last_sequence"""


async def advance(tx: Connection, schema: str, reached: Mapping[Subject, int]) -> None:
    """So far all is applied: what of a subject waits and follows without a gap may go, a parked next one too."""
    places = [source for source, _ in reached], [subject for _, subject in reached], list(reached.values())
    if await tx.fetchval(_move(schema), *places) and await tx.fetchval(_free(schema), *places):
        after_commit(tx, waker(retries_topic(schema)))


@cache
def _move(schema: str) -> str:
    """Says also whether anything of these subjects waits or is set aside: mostly nothing."""
    name = quote(schema)
    return f"""
        WITH moved AS (
            UPDATE {name}.subject_positions AS p SET last_sequence = reached.sequence
            FROM unnest($1::text[], $2::text[], $3::bigint[]) AS reached (source, subject, sequence)
            WHERE p.source = reached.source AND p.subject = reached.subject
            RETURNING p.source, p.subject
        )
        SELECT coalesce(bool_or(
            EXISTS (SELECT 1 FROM {name}.retries r WHERE r.source = moved.source AND r.subject = moved.subject)
            OR EXISTS (SELECT 1 FROM {name}.parked r WHERE r.source = moved.source AND r.subject = moved.subject)
        ), false) FROM moved"""


@cache
def _free(schema: str) -> str:
    name = quote(schema)
    return f"""
        WITH reached AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) AS r (source, subject, sequence)
        ), due AS (
            UPDATE {name}.retries AS r SET due_at = clock_timestamp()
            FROM (SELECT w.event_id, reached.sequence AS last,
                         w.sequence - row_number() OVER (PARTITION BY w.source, w.subject ORDER BY w.sequence) AS before
                  FROM {name}.retries w JOIN reached
                      ON w.source = reached.source AND w.subject = reached.subject AND w.sequence > reached.sequence
                 ) AS waiting
            WHERE r.event_id = waiting.event_id AND waiting.before = waiting.last AND r.code = 'sequence-gap'
              AND r.due_at > clock_timestamp()
            RETURNING r.event_id
        ), freed AS (
            DELETE FROM {name}.parked AS p USING reached
            WHERE p.source = reached.source AND p.subject = reached.subject AND p.sequence = reached.sequence + 1
              AND p.code = 'sequence-gap'
            RETURNING p.event_id, p.workspace_id, p.source, p.subject, p.sequence, p.event, p.code, p.reason
        ), again AS (
            INSERT INTO {name}.retries
                (event_id, workspace_id, source, subject, sequence, event, code, reason, tries, due_at)
            SELECT *, 0, clock_timestamp() FROM freed ON CONFLICT (event_id) DO NOTHING RETURNING event_id
        )
        SELECT (SELECT count(*) FROM due) + (SELECT count(*) FROM again)"""


async def retry(
    tx: Connection,
    schema: str,
    event: Event,
    *,
    tries: int,
    calls: int,
    waited: bool,
    why: tuple[str, str],
    after_seconds: float,
) -> None:
    """Write the retry row, or if it `waited` in one the next time into that; the last try is judged.

    `calls` of the handler of what waits for an earlier event were made before: with others, in what was undone.
    """
    await tx.execute(
        f"""INSERT INTO {quote(schema)}.retries
                (event_id, workspace_id, source, subject, sequence, event, tries, unjudged, code, reason, due_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp() + make_interval(secs => $11))
            ON CONFLICT (event_id) DO UPDATE SET tries = excluded.tries, unjudged = excluded.unjudged,
                code = excluded.code, reason = excluded.reason, due_at = excluded.due_at
            WHERE $12""",
        *_identity(event),
        tries,
        calls,
        *why,
        after_seconds,
        waited,
    )
    after_commit(tx, waker(retries_topic(schema)))


async def suspect(tx: Connection, schema: str, event: Event, *, tries: int) -> None:
    """Write a retry row for an event whose delivery was begun and never judged; none if it is applied or waits."""
    await tx.execute(
        f"""INSERT INTO {quote(schema)}.retries
                (event_id, workspace_id, source, subject, sequence, event, tries, unjudged, code, reason, due_at)
            SELECT $1, $2, $3, $4, $5, $6, $7, 1, 'event-redelivered',
                'delivered before, and nothing is known of how that ended', clock_timestamp()
            WHERE NOT EXISTS (SELECT 1 FROM {quote(schema)}.inbox WHERE event_id = $1)
              AND NOT EXISTS (SELECT 1 FROM {quote(schema)}.parked WHERE event_id = $1)
            ON CONFLICT (event_id) DO NOTHING""",
        *_identity(event),
        tries,
    )
    after_commit(tx, waker(retries_topic(schema)))


def _identity(event: Event) -> tuple[Any, ...]:
    return event.id, event.workspace_id, event.source, event.subject, event.sequence, event.cloudevent()


async def settle(tx: Connection, schema: str, event_ids: Sequence[UUID]) -> None:
    """These wait no more."""
    await tx.execute(f"DELETE FROM {quote(schema)}.retries WHERE event_id = ANY($1)", event_ids)


async def claim_due(tx: Connection, schema: str, *, limit: int, lease_seconds: float, calls: int) -> list[Waiting]:
    """Retry rows that are due, in the order of their subjects; for so long nobody else claims them.

    The try is counted by the claim, so that one that ends the process is counted too; as `calls` tries where it goes
    together with others, which calls its handler so often. What was left unjudged before is not among them.
    """
    rows = await _claim(tx, schema, "unjudged = 0", limit=limit, lease_seconds=lease_seconds, calls=calls)
    rows.sort(key=lambda row: (row["source"], row["subject"], row["sequence"]))
    return [_waiting(row, calls, calls) for row in rows]


async def claim_suspect(tx: Connection, schema: str, *, lease_seconds: float, calls: int) -> list[Waiting]:
    """As `claim_due`, one row that was left unjudged before, if one is due: it may have ended its process."""
    rows = await _claim(tx, schema, "unjudged > 0", limit=1, lease_seconds=lease_seconds, calls=1)
    return [_waiting(row, 1, calls) for row in rows]


def _waiting(row: "asyncpg.Record", counted: int, calls: int) -> Waiting:
    event, tries, unjudged = Event.from_cloudevent(row["event"]), row["tries"], row["unjudged"]
    if row["code"] != "sequence-gap":
        return Waiting(event, tries, 0, unjudged, gap=False)
    # Of these `unjudged` counts calls of the handler, so that what is left of the tries are the gaps.
    return Waiting(event, tries - counted + 1, tries - unjudged, max(1, unjudged - calls + 1), gap=True)


async def _claim(
    tx: Connection, schema: str, which: str, *, limit: int, lease_seconds: float, calls: int
) -> "list[asyncpg.Record]":
    # As an array, because `IN` may be carried out once for each row of the table, each time with other rows locked.
    return await tx.fetch(
        f"""UPDATE {quote(schema)}.retries
            SET tries = tries + CASE code WHEN 'sequence-gap' THEN $3::int ELSE 1 END,
                unjudged = unjudged + CASE code WHEN 'sequence-gap' THEN $3::int ELSE 1 END,
                due_at = clock_timestamp() + make_interval(secs => $2)
            WHERE event_id = ANY(ARRAY(
                SELECT event_id FROM {quote(schema)}.retries WHERE due_at <= clock_timestamp() AND {which}
                ORDER BY due_at FOR UPDATE SKIP LOCKED LIMIT $1))
            RETURNING event, tries, unjudged, code, source, subject, sequence""",
        limit,
        lease_seconds,
        calls,
    )


async def next_due_seconds(tx: Connection, schema: str) -> float | None:
    """Until the next retry is due; None if none waits."""
    found: float | None = await tx.fetchval(
        f"SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM {quote(schema)}.retries"
    )
    return found
