"""The bus: what a process that died left in an outbox, delivered with care, because it may have died of it."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from dataaggregator.bus.relay import EVENT_COLUMNS, KNOWN
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Database, quote

MOST_RECOVERIES = 5
"""A process that died so often while it delivered the same event died of that event."""

Deliver = Callable[[Event, int], Awaitable[bool]]
"""Delivers an event, so many times recovered, to everybody who listens to it; False if an outcome is not stored."""

SetAside = Callable[[Event, int], Awaitable[None]]
"""Parks an event, so many times recovered, for everybody who listens to it."""


async def recover(
    database: Database, schema: str, before: datetime | None, deliver: Deliver, set_aside: SetAside
) -> None:
    """What was said `before`, one event after the other, each try counted before it is made.

    What cannot be delivered now is left waiting.
    """
    name = quote(schema)
    async with database.platform() as tx:
        newest = await tx.fetchval(
            f"""SELECT max(position) FROM {name}.outbox
                WHERE published_at IS NULL AND ($1::timestamptz IS NULL OR time < $1)""",
            before,
        )
    position = 0
    while newest is not None:
        async with database.platform() as tx:
            row = await tx.fetchrow(
                f"""UPDATE {name}.outbox SET recoveries = recoveries + 1 WHERE id = (
                        SELECT id FROM {name}.outbox
                        WHERE published_at IS NULL AND position > $1 AND position <= $2 AND type = ANY($3)
                        ORDER BY position FOR UPDATE SKIP LOCKED LIMIT 1)
                    RETURNING {EVENT_COLUMNS}, position, recoveries""",
                position,
                newest,
                KNOWN,
            )
        if row is None:
            return
        position, event = row["position"], Event.model_validate(dict(row))
        if row["recoveries"] > MOST_RECOVERIES:
            await set_aside(event, row["recoveries"])
        elif not await deliver(event, row["recoveries"]):
            continue
        async with database.platform() as tx:
            await tx.execute(f"UPDATE {name}.outbox SET published_at = clock_timestamp() WHERE id = $1", event.id)
