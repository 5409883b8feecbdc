"""The bus: taking committed events out of a schema's outbox and publishing them, in order of commit a subject.

What is published again for somebody who lost it may be the events of a day: new ones do not wait for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import cast
from uuid import UUID

import asyncpg

from dataaggregator.bus.emit import channel
from dataaggregator.bus.signals import Signal, concerns_us, outbox_topic
from dataaggregator.contracts.envelope import MESSAGES, Event
from dataaggregator.db import SOON, Connection, Database, PooledConnection, quote
from dataaggregator.db.errors import translated
from dataaggregator.errors import PlatformError
from dataaggregator.telemetry import logs, metrics

log = logs.get("bus")

BATCH = 500
COPIES = 100
"""At once of what is published again: so many are before what is new meanwhile, here and in the queues."""
PAUSE_SECONDS = 1.0
GATHERED_EACH_SECONDS = 0.008
GATHERED_MOST_SECONDS = 0.1
"""The more events a batch had, the longer the next one gathers: a lone event is not kept, many travel together."""

Publish = Callable[[Sequence[Event]], Awaitable[set[UUID]]]
"""Publishes events and returns the ids of those that are confirmed."""


EVENT_COLUMNS = "id, type, source, subject, sequence, time, workspace_id, traceparent, data"

KNOWN = sorted(MESSAGES)
"""What else stands in an outbox was written by another version, and waits for one that knows where it goes."""


class Relay:
    """One outbox. Any number of relays may work on it: each row is claimed by one at a time."""

    def __init__(self, database: Database, schema: str, publish: Publish, poll_seconds: float) -> None:
        self._database = database
        self._schema = schema
        self._publish = publish
        self._poll_seconds = poll_seconds
        name = quote(schema)
        self._claims = [
            f"""SELECT {EVENT_COLUMNS}
                FROM {name}.outbox WHERE published_at IS NULL AND type = ANY($1) AND {which}
                ORDER BY position FOR UPDATE SKIP LOCKED LIMIT {most}"""
            for which, most in (("NOT again", BATCH), ("again", COPIES))
        ]
        self._mark = f"UPDATE {name}.outbox SET published_at = clock_timestamp() WHERE id = ANY($1)"

    async def run(self) -> None:
        """Until cancelled; a database that does not answer is waited for."""
        while True:
            try:
                await self._work()
            except PlatformError as error:
                log.warning("relay_waits", schema=self._schema, code=error.code, reason=error.detail)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _work(self) -> None:
        """On a connection of its own, which also listens, until something goes wrong."""
        connection = await self._database.connect("platform")
        signal = Signal(outbox_topic(self._schema))
        try:
            with translated():
                await connection.add_listener(channel(self._schema), partial(_notified, signal))
                while True:
                    signal.clear()
                    began_at = time.monotonic()
                    claimed, confirmed = await self.relay(connection)
                    if confirmed < claimed:
                        await asyncio.sleep(PAUSE_SECONDS)
                    elif claimed < BATCH:
                        if claimed < COPIES:
                            await signal.wait(self._poll_seconds)
                        gathered = min(GATHERED_MOST_SECONDS, GATHERED_EACH_SECONDS * claimed)
                        await asyncio.sleep(max(0.0, began_at + gathered - time.monotonic()))
        finally:
            await _close(connection)

    async def relay(self, connection: Connection) -> tuple[int, int]:
        """One batch: claim, publish, mark. Returns how many were claimed and how many confirmed.

        It is of what is published again only where nothing is new.
        """
        # A mark that a crash takes with it means one more delivery, which the inbox answers: nobody waits for the disk.
        async with cast("PooledConnection", connection).begin(SOON):
            rows = await self._claim(connection)
            if not rows:
                return 0, 0
            confirmed = await self._publish([Event.model_validate(dict(row)) for row in rows])
            if confirmed:
                await connection.execute(self._mark, list(confirmed))
        metrics.BUS_PUBLISHED.of(self._schema).inc(len(confirmed))
        return len(rows), len(confirmed)

    async def _claim(self, connection: Connection) -> "list[asyncpg.Record]":
        new, copies = self._claims
        return await connection.fetch(new, KNOWN) or await connection.fetch(copies, KNOWN)


def _notified(signal: Signal, _connection: object, _pid: int, _channel: str, said: object) -> None:
    if concerns_us(said):
        signal.fire()


async def _close(connection: Connection) -> None:
    """Closed politely, or dropped if the server does not answer."""
    try:
        await connection.close(timeout=2)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
