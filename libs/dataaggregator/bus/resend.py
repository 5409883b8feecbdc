"""The bus: publishing again what may not have reached a service whose binding was missing for a while."""

from collections.abc import Sequence
from datetime import datetime

from dataaggregator.bus.emit import emit
from dataaggregator.bus.handler import Handler
from dataaggregator.bus.signals import outbox_topic, waker
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE, Event
from dataaggregator.contracts.platform import BusResendRequested
from dataaggregator.db import Connection, Database, after_commit, quote
from dataaggregator.telemetry import logs

log = logs.get("bus")


async def request_resend(database: Database, schema: str, types: Sequence[str], since: datetime) -> None:
    """Ask everybody, ourselves included, for the events of these types published since then."""
    message = BusResendRequested(types=tuple(types), since=since)
    async with database.platform() as tx:
        await emit(tx, schema, message, subject=schema, workspace=PLATFORM_WORKSPACE, source=schema)


def resend_handler(schema: str) -> Handler:
    """What every service does when somebody asks."""

    async def resend(event: Event, tx: Connection) -> None:
        asked = event.read(BusResendRequested)
        # A relay may have published before the binding was back what it marks only now: its marks are waited for.
        await tx.execute(
            f"""SELECT FROM {quote(schema)}.outbox WHERE type = ANY($1) AND published_at IS NULL
                ORDER BY position FOR UPDATE""",
            list(asked.types),
        )
        done = await tx.execute(
            f"""UPDATE {quote(schema)}.outbox SET published_at = NULL, again = true
                WHERE type = ANY($1) AND published_at >= $2""",
            list(asked.types),
            asked.since,
        )
        log.info("events_published_again", schema=schema, types=list(asked.types), events=int(done.split()[-1]))
        after_commit(tx, waker(outbox_topic(schema)))

    return Handler(schema, BusResendRequested, resend)
