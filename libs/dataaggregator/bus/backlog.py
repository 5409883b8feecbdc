"""The bus: how much waits in a schema, and the sweeping of what is old."""

from dataclasses import dataclass

from dataaggregator.bus.relay import KNOWN
from dataaggregator.contracts.envelope import MESSAGES
from dataaggregator.db import Connection, quote

KEEP_PUBLISHED_SECONDS = 86_400.0
KEEP_INBOX_SECONDS = 30 * 86_400.0
SWEPT_AT_ONCE = 5_000
ENDS = [name for name, message in MESSAGES.items() if message.ends]


@dataclass(frozen=True)
class Backlog:
    """Events not yet published and the age of the oldest new one, events that wait for another try, events set aside.

    `unknown` of those not yet published are of types that only another version knows.
    """

    pending: int
    oldest_seconds: float
    unknown: int
    unknown_types: list[str]
    retrying: int
    parked: int


async def backlog(tx: Connection, schema: str) -> Backlog:
    """Counted now."""
    name = quote(schema)
    row = await tx.fetchrow(
        f"""SELECT count(*) AS pending,
                   coalesce(extract(epoch FROM clock_timestamp() - min(time) FILTER (WHERE NOT again)), 0)::float8
                       AS oldest_seconds,
                   count(*) FILTER (WHERE type <> ALL($1)) AS unknown,
                   coalesce(array_agg(DISTINCT type) FILTER (WHERE type <> ALL($1)), '{{}}') AS unknown_types,
                   (SELECT count(*) FROM {name}.retries) AS retrying,
                   (SELECT count(*) FROM {name}.parked) AS parked
            FROM {name}.outbox WHERE published_at IS NULL""",
        KNOWN,
    )
    return Backlog(**dict(row or {}))


async def sweep(tx: Connection, schema: str) -> int:
    """Remove some published outbox rows older than a day and inbox rows older than 30; returns how many.

    What counted the events of a subject goes with the row of the one that ended it, said or heard here.
    """
    name = quote(schema)
    published: int = await tx.fetchval(
        f"""WITH {_gone(f"{name}.outbox", "id", "published_at")}, said AS (
                DELETE FROM {name}.subject_sequences s USING ended
                WHERE s.source = ended.source AND s.subject = ended.subject)
            SELECT count(*) FROM gone""",
        KEEP_PUBLISHED_SECONDS,
        SWEPT_AT_ONCE,
        ENDS,
    )
    applied: int = await tx.fetchval(
        f"""WITH {_gone(f"{name}.inbox", "event_id", "applied_at")}, heard AS (
                DELETE FROM {name}.subject_positions p USING ended
                WHERE p.source = ended.source AND p.subject = ended.subject
            ), said AS (
                DELETE FROM {name}.subject_sequences s USING ended WHERE s.source = $4 AND s.subject = ended.subject)
            SELECT count(*) FROM gone""",
        KEEP_INBOX_SECONDS,
        SWEPT_AT_ONCE,
        ENDS,
        schema,
    )
    return published + applied


def _gone(table: str, key: str, time: str) -> str:
    """Some rows of a table that are too old, removed, and the subjects that ended by them.

    Whether they are is asked again of a row that changes meanwhile, such as one that is to be published again.
    """
    old = f"{time} < clock_timestamp() - make_interval(secs => $1)"
    return f"""gone AS (
            DELETE FROM {table} WHERE {old} AND {key} IN (SELECT {key} FROM {table} WHERE {old} LIMIT $2)
            RETURNING source, subject, type
        ), ended AS (
            SELECT DISTINCT source, subject FROM gone WHERE type = ANY($3))"""
