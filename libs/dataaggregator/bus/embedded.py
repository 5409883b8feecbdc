"""The bus: the embedded adapter: the outbox delivered in this process, with the same inbox, retries and parking."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from dataaggregator.bus.consumer import CALLS_OF_A_DELIVERY, Consumer
from dataaggregator.bus.handler import Handler
from dataaggregator.bus.loops import retry_loop, upkeep_loop
from dataaggregator.bus.port import LoopBody, Observer
from dataaggregator.bus.recovery import recover
from dataaggregator.bus.relay import Relay
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Database
from dataaggregator.errors import PlatformError
from dataaggregator.settings import Settings
from dataaggregator.telemetry import logs

log = logs.get("bus")


class EmbeddedBus:
    """Publishing is delivering: an event counts as published when each subscriber's outcome is committed."""

    name = "bus"

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._poll_seconds = settings.relay_poll_seconds
        self._consumers: dict[str, Consumer] = {}
        self._suspects = asyncio.Lock()
        self._observers: list[Observer] = []
        self._opened_at: datetime | None = None

    async def open(self) -> None:
        """It lives in the database, whose time now parts what an earlier process left from what this one says."""
        async with self._database.platform() as tx:
            self._opened_at = await tx.fetchval("SELECT clock_timestamp()")

    async def close(self) -> None:
        """Nothing to close."""

    async def ping(self) -> None:
        """As well as the database is."""

    def subscribe(self, schema: str, handlers: Sequence[Handler]) -> None:
        if schema in self._consumers:
            raise ValueError(f"{schema} has subscribed already")
        self._consumers[schema] = Consumer(self._database, schema, handlers, self._suspects)

    def loops(self, schema: str) -> Mapping[str, LoopBody]:
        relay = Relay(self._database, schema, self._publish, self._poll_seconds)
        loops: dict[str, LoopBody] = {
            f"{schema}-relay": partial(self._recover_and_relay, relay, schema),
            f"{schema}-upkeep": partial(upkeep_loop, self._database, schema),
        }
        if schema in self._consumers:
            loops[f"{schema}-retries"] = partial(retry_loop, self._database, self._consumers[schema])
        return loops

    async def _recover_and_relay(self, relay: Relay, schema: str) -> None:
        try:
            async with self._suspects:
                await recover(self._database, schema, self._opened_at, self._deliver_again, self._set_aside)
        except PlatformError as error:
            log.warning("recovery_interrupted", schema=schema, code=error.code, reason=error.detail)
        await relay.run()

    async def _deliver_again(self, event: Event, recoveries: int) -> bool:
        """All calls count that may have been made before: in a delivery, and in each recovery but this one."""
        tries = CALLS_OF_A_DELIVERY + recoveries
        return all([await consumer.deliver_chain([event], tries) for consumer in self._listening(event)])

    async def _set_aside(self, event: Event, tries: int) -> None:
        for consumer in self._listening(event):
            await consumer.set_aside(event, tries)

    def _listening(self, event: Event) -> list[Consumer]:
        return [consumer for consumer in self._consumers.values() if event.type in consumer.handlers]

    async def publish_ephemeral(self, event: Event) -> None:
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                log.exception("observer_failed", type=event.type)
        for consumer in self._listening(event):
            await consumer.deliver_ephemeral(event)

    def observe(self, observer: Observer) -> Callable[[], None]:
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    async def _publish(self, events: Sequence[Event]) -> set[UUID]:
        """A subscriber gets the events of a subject one after the other; the subscribers work side by side."""
        confirmed = {event.id for event in events}
        async with asyncio.TaskGroup() as tasks:
            for consumer in self._consumers.values():
                chains: dict[tuple[str, str], list[Event]] = {}
                for event in events:
                    if event.type in consumer.handlers:
                        chains.setdefault((event.source, event.subject), []).append(event)
                if chains:
                    tasks.create_task(_deliver(consumer, list(chains.values()), confirmed))
        return confirmed


async def _deliver(consumer: Consumer, chains: Sequence[Sequence[Event]], confirmed: set[UUID]) -> None:
    for chain, done in zip(chains, await consumer.deliver_chains(chains), strict=True):
        confirmed.difference_update(left.id for left in chain[done:])
