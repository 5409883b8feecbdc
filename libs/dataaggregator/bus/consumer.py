"""The bus: applying one event to one service: inbox, handler and what it emits in one transaction, else a verdict."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from dataaggregator.bus import inbox, parked
from dataaggregator.bus.handler import Handler, handler_table
from dataaggregator.bus.inbox import Waiting
from dataaggregator.bus.verdict import Ack, Park, Retry, SequenceGap, Verdict, ended_the_process, reason, verdict
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE, Event
from dataaggregator.db import Connection, Database
from dataaggregator.telemetry import logs, metrics, traces

log = logs.get("bus")

FOLDED_AT_ONCE = 50
CLAIMED_AT_ONCE = 100
CLAIM_SECONDS = 60.0
RETRIED_AT_ONCE = 4


class Consumer:
    """The receiving side of one service, the same under every adapter."""

    def __init__(self, database: Database, schema: str, handlers: Sequence[Handler]) -> None:
        self._database = database
        self.schema = schema
        self.handlers: Mapping[str, Handler] = handler_table(handlers)
        self._room = asyncio.Semaphore(RETRIED_AT_ONCE)

    async def deliver(self, event: Event, waited: Waiting | None = None) -> Verdict:
        """Apply an event, or the one of a retry row. Returns once the outcome is committed.

        Raises only if not even the verdict could be stored: then the event is not to be acknowledged.
        """
        handler = self.handlers[event.type]
        tries = waited.tries if waited else 1
        with traces.continue_from(event.traceparent, f"consume {event.type}"):
            try:
                await self._apply(handler, event, waited)
                outcome: Verdict = Ack()
            except Exception as error:
                outcome = verdict(error, tries)
                self._tell(event, outcome, error, tries)
                await self._store(handler, event, outcome, error, tries)
        metrics.BUS_CONSUMED.of(handler.service, type(outcome).__name__.lower()).inc()
        return outcome

    async def deliver_chain(self, chain: Sequence[Event]) -> int:
        """Deliver the events of one subject in their order; returns how many outcomes are committed, from the first.

        They are applied in one transaction, which saves all commits but one; if one of them fails, each in its own.
        """
        for begin in range(0, len(chain), FOLDED_AT_ONCE):
            part = chain[begin : begin + FOLDED_AT_ONCE]
            if len(part) > 1 and await self._fold(part):
                continue
            for number, event in enumerate(part):
                try:
                    await self.deliver(event)
                except Exception as error:
                    log.warning("delivery_interrupted", schema=self.schema, type=event.type, reason=reason(error)[1])
                    return begin + number
        return len(chain)

    async def _fold(self, events: Sequence[Event]) -> bool:
        """All of them in one transaction; False if that did not work, and then nothing has happened."""
        if len({event.workspace_id for event in events}) > 1:
            return False
        try:
            async with self._transaction(events[0]) as tx:
                for event in events:
                    with traces.continue_from(event.traceparent, f"consume {event.type}"):
                        await self._apply_in(tx, self.handlers[event.type], event, None)
        except Exception as error:
            log.debug("events_not_folded", schema=self.schema, type=events[0].type, reason=reason(error)[1])
            return False
        for event in events:
            metrics.BUS_CONSUMED.of(self.handlers[event.type].service, "ack").inc()
        return True

    async def retry_due(self) -> int:
        """Deliver what is due again, a subject's events in their order; returns how many were."""
        async with self._database.platform() as tx:
            due = await inbox.claim_due(tx, self.schema, limit=CLAIMED_AT_ONCE, lease_seconds=CLAIM_SECONDS)
        chains: dict[tuple[str, str], list[Waiting]] = {}
        for waiting in due:
            chains.setdefault((waiting.event.source, waiting.event.subject), []).append(waiting)
        async with asyncio.TaskGroup() as tasks:
            for chain in chains.values():
                tasks.create_task(self._follow(chain))
        return len(due)

    async def _follow(self, chain: Sequence[Waiting]) -> None:
        async with self._room:
            for waiting in chain:
                try:
                    if ended_the_process(waiting.code, waiting.tries):
                        await self.set_aside(waiting.event, waiting.tries)
                    else:
                        await self.deliver(waiting.event, waiting)
                except Exception as error:  # not even the verdict could be stored: due again after the claim
                    log.warning("retry_interrupted", schema=self.schema, reason=reason(error)[1])
                    return

    async def set_aside(self, event: Event, tries: int) -> None:
        """Park an event during whose delivery the process ended again and again."""
        why = ("event-poisonous", f"the process ended while it was delivered, for the last time at try {tries}")
        log.error("event_parked", code=why[0], reason=why[1], type=event.type, event_id=str(event.id))
        async with self._transaction(event) as tx:
            await parked.park(tx, self.schema, event, tries=tries, why=why)

    async def deliver_ephemeral(self, event: Event) -> None:
        """Apply without inbox, verdict and second try."""
        handler = self.handlers[event.type]
        try:
            async with self._transaction(event) as tx:
                await handler.handle(event, tx)
        except Exception as error:
            log.warning("ephemeral_event_lost", type=event.type, service=handler.service, reason=reason(error)[1])

    def _transaction(self, event: Event) -> AbstractAsyncContextManager[Connection]:
        if event.workspace_id == PLATFORM_WORKSPACE:
            return self._database.platform()
        return self._database.transaction(event.workspace_id)

    async def _apply(self, handler: Handler, event: Event, waited: Waiting | None) -> None:
        async with self._transaction(event) as tx:
            await self._apply_in(tx, handler, event, waited)

    async def _apply_in(self, tx: Connection, handler: Handler, event: Event, waited: Waiting | None) -> None:
        fresh = await inbox.add(tx, self.schema, event)
        if fresh and await self._is_next(tx, handler, event):
            await handler.handle(event, tx)
            if handler.ordered:
                await inbox.advance(tx, self.schema, event)
        if waited or not fresh:
            await inbox.settle(tx, self.schema, event.id)

    async def _is_next(self, tx: Connection, handler: Handler, event: Event) -> bool:
        if not handler.ordered:
            return True
        last = await inbox.position(tx, self.schema, event)
        if event.sequence > last + 1:
            raise SequenceGap(last + 1, event.sequence)
        return event.sequence == last + 1

    async def _store(self, handler: Handler, event: Event, outcome: Verdict, error: Exception, tries: int) -> None:
        async with self._transaction(event) as tx:
            match outcome:
                case Ack():
                    await self._acknowledge(tx, handler, event)
                case Retry(after_seconds):
                    why = reason(error)
                    await inbox.retry(tx, self.schema, event, tries=tries, why=why, after_seconds=after_seconds)
                case Park():
                    await parked.park(tx, self.schema, event, tries=tries, why=reason(error))

    async def _acknowledge(self, tx: Connection, handler: Handler, event: Event) -> None:
        """Nothing to do for this event, in whatever state things are: written down without its effects."""
        if await inbox.add(tx, self.schema, event) and await self._is_next(tx, handler, event) and handler.ordered:
            await inbox.advance(tx, self.schema, event)
        await inbox.settle(tx, self.schema, event.id)

    def _tell(self, event: Event, outcome: Verdict, error: Exception, tries: int) -> None:
        fields = {"type": event.type, "event_id": str(event.id), "schema": self.schema, "tries": tries}
        code, why = reason(error)
        match outcome:
            case Park():
                log.error("event_parked", code=code, reason=why, **fields)
            case Retry(after_seconds) if code == "internal-error":
                log.bug("event_failed", error, after_seconds=after_seconds, **fields)
            case Retry(after_seconds):
                log.info("event_retried", code=code, reason=why, after_seconds=after_seconds, **fields)
            case Ack():
                log.info("event_not_needed", code=code, reason=why, **fields)
