"""Webhooks, loop: takes receivers with something due, one at a time each, many at once; any number of gateways may."""

import asyncio
import random
from dataclasses import dataclass, field

import orjson

from dataaggregator import signatures
from dataaggregator.bus import audit as trail
from dataaggregator.bus.signals import Signal
from dataaggregator.clock import Clock
from dataaggregator.db import Connection, Database
from dataaggregator.definition import Audited, Author
from dataaggregator.errors import PlatformError
from dataaggregator.secrets import KeyRing
from dataaggregator.telemetry import logs, metrics, traces
from services.gateway import SCHEMA
from services.gateway.feed.tail import RETENTION_SECONDS

from . import deliveries, store
from .domain import PURPOSE, TOPIC, After, Attempt, Due, Turn, aad, after_failure
from .sending import Sending

log = logs.get("webhooks")

POLL_SECONDS = 0.5
RECEIVERS_AT_ONCE = 32
IN_A_ROW = 50
"""So many deliveries to one receiver before others have their turn."""
PLATFORM = Author(None, "platform")


@dataclass(frozen=True)
class Deliverer:
    database: Database
    keys: KeyRing
    clock: Clock
    sending: Sending
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RECEIVERS_AT_ONCE))

    async def run(self) -> None:
        """Until cancelled; woken when this process has made deliveries, and looking by itself."""
        signal = Signal(TOPIC)
        async with asyncio.TaskGroup() as tasks:
            while True:
                signal.clear()
                try:
                    while (turn := await self._claim()) is not None:
                        tasks.create_task(self._serve(turn))
                except PlatformError as error:
                    log.warning("deliverer_waits", code=error.code)
                await signal.wait(POLL_SECONDS)

    async def forget_outlived(self) -> None:
        """Deliveries are kept as long as the feed."""
        async with self.database.platform() as tx:
            await deliveries.remove_older(tx, RETENTION_SECONDS)

    async def _claim(self) -> Turn | None:
        """A receiver for whom there is room; the room is given back by `_serve`."""
        await self._free.acquire()
        turn = None
        try:
            async with self.database.glance() as connection:
                turn = await deliveries.claim(connection)
        finally:
            if turn is None:
                self._free.release()
        return turn

    async def _serve(self, turn: Turn) -> None:
        """What is due of one receiver, one after the other; a failure ends its turn."""
        try:
            for _ in range(IN_A_ROW):
                async with self.database.transaction(turn.workspace_id) as tx:
                    due = await deliveries.begin_due(tx, turn)
                if due is None or not await self._deliver(turn, due):
                    break
            async with self.database.transaction(turn.workspace_id) as tx:
                await deliveries.release(tx, turn)
        except PlatformError as error:
            # The lease ends by itself, and whoever takes the receiver then goes on.
            log.warning("deliveries_postponed", code=error.code, webhook_id=str(turn.webhook_id))
        finally:
            self._free.release()

    async def _deliver(self, turn: Turn, due: Due) -> bool:
        with traces.continue_from(due.event.get("traceparent"), "webhook"):
            attempt = await self._attempt(turn, due)
            async with self.database.transaction(turn.workspace_id) as tx:
                if attempt.error is None:
                    await deliveries.delivered(tx, turn, due, attempt)
                else:
                    await _failed(tx, turn, due, attempt)
        metrics.WEBHOOKS.of("delivered" if attempt.error is None else "failed").inc()
        return attempt.error is None

    async def _attempt(self, turn: Turn, due: Due) -> Attempt:
        try:
            secrets = [
                self.keys.open(one, aad=aad(turn.webhook_id), purpose=PURPOSE).decode() for one in due.sealed_secrets
            ]
        except PlatformError as error:
            return Attempt(0, error=error.detail)
        body = orjson.dumps(due.event)
        headers = signatures.sign(secrets, str(due.event_id), self.clock.now(), body)
        return await self.sending.post(turn.workspace_id, due.url, headers, body)


async def _failed(tx: Connection, turn: Turn, due: Due, attempt: Attempt) -> None:
    after: After = after_failure(due, attempt, random.random())  # noqa: S311 - spreads load, hides nothing
    await deliveries.failed(tx, turn, due, attempt, after)
    log.info("delivery_failed", webhook_id=str(turn.webhook_id), attempts=due.attempts + 1, status=attempt.status)
    if after.give_up is not None and await store.disable(tx, turn.workspace_id, turn.webhook_id, after.give_up):
        line = Audited("webhook.disabled", "webhook", turn.webhook_id, {"name": turn.name, "reason": after.give_up})
        await trail.audit(tx, SCHEMA, turn.workspace_id, PLATFORM, line)
