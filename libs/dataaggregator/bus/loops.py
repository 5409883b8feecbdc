"""The bus: the loops of the receiving side: retries that are due, backlog metrics, sweeping."""

import asyncio

from dataaggregator.bus import inbox
from dataaggregator.bus.backlog import SWEPT_AT_ONCE, backlog, sweep
from dataaggregator.bus.consumer import Consumer
from dataaggregator.bus.signals import Signal, retries_topic
from dataaggregator.db import Database
from dataaggregator.errors import PlatformError
from dataaggregator.telemetry import logs, metrics

log = logs.get("bus")

PAUSE_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 5.0
METRICS_SECONDS = 5.0
SWEEP_EVERY = 120


async def retry_loop(database: Database, consumer: Consumer) -> None:
    """Deliver again what is due, until cancelled."""
    signal = Signal(retries_topic(consumer.schema))
    while True:
        signal.clear()
        try:
            if await consumer.retry_due():
                continue
            async with database.glance() as connection:
                seconds = await inbox.next_due_seconds(connection, consumer.schema)
        except PlatformError as error:
            log.warning("retries_wait", schema=consumer.schema, code=error.code, reason=error.detail)
            seconds = PAUSE_SECONDS
        await signal.wait(min(max(seconds or LONGEST_WAIT_SECONDS, 0.01), LONGEST_WAIT_SECONDS))


async def upkeep_loop(database: Database, schema: str) -> None:
    """Tell the backlog to Prometheus and now and then remove what is old, until cancelled."""
    turn = unknown = 0
    while True:
        try:
            unknown = await _tell(database, schema, unknown)
            if turn % SWEEP_EVERY == 0:
                await _sweep(database, schema)
        except PlatformError as error:
            log.warning("upkeep_waits", schema=schema, code=error.code, reason=error.detail)
        turn += 1
        await asyncio.sleep(METRICS_SECONDS)


async def _tell(database: Database, schema: str, unknown_before: int) -> int:
    """Returns how many events are of no type that is known here; told when there are more of them."""
    async with database.platform() as tx:
        now = await backlog(tx, schema)
    metrics.OUTBOX_PENDING.of(schema).set(now.pending)
    metrics.OUTBOX_OLDEST.of(schema).set(now.oldest_seconds)
    metrics.OUTBOX_UNKNOWN.of(schema).set(now.unknown)
    metrics.PARKED_MESSAGES.of(schema).set(now.parked)
    if now.unknown > unknown_before:
        log.error("events_kept", code="event-unknown", schema=schema, events=now.unknown, types=now.unknown_types)
    return now.unknown


async def _sweep(database: Database, schema: str) -> None:
    removed = SWEPT_AT_ONCE
    while removed >= SWEPT_AT_ONCE:
        async with database.platform() as tx:
            removed = await sweep(tx, schema)
