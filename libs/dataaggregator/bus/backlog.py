"""The bus: how much waits in a schema, and the sweeping of what is old."""

from dataclasses import dataclass

from dataaggregator.bus.relay import KNOWN
from dataaggregator.db import Connection, quote

KEEP_PUBLISHED_SECONDS = 86_400.0
KEEP_INBOX_SECONDS = 30 * 86_400.0
SWEPT_AT_ONCE = 5_000


@dataclass(frozen=True)
class Backlog:
    """Events not yet published and the age of the oldest, events that wait for another try, events set aside.

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
                   coalesce(extract(epoch FROM clock_timestamp() - min(time)), 0)::float8 AS oldest_seconds,
                   count(*) FILTER (WHERE type <> ALL($1)) AS unknown,
                   coalesce(array_agg(DISTINCT type) FILTER (WHERE type <> ALL($1)), '{{}}') AS unknown_types,
                   (SELECT count(*) FROM {name}.retries) AS retrying,
                   (SELECT count(*) FROM {name}.parked) AS parked
            FROM {name}.outbox WHERE published_at IS NULL""",
        KNOWN,
    )
    return Backlog(**dict(row or {}))


async def sweep(tx: Connection, schema: str) -> int:
    """Remove some published outbox rows older than a day and inbox rows older than 30; returns how many."""
    published = await _remove(tx, quote(schema, "outbox"), ("id", "published_at"), KEEP_PUBLISHED_SECONDS)
    return published + await _remove(tx, quote(schema, "inbox"), ("event_id", "applied_at"), KEEP_INBOX_SECONDS)


async def _remove(tx: Connection, table: str, columns: tuple[str, str], keep_seconds: float) -> int:
    key, time = columns
    done = await tx.execute(
        f"""DELETE FROM {table} WHERE {key} IN (
                SELECT {key} FROM {table} WHERE {time} < clock_timestamp() - make_interval(secs => $1) LIMIT $2)""",
        keep_seconds,
        SWEPT_AT_ONCE,
    )
    return int(done.split()[-1])
