"""The bus: applying one event to one service: inbox, handler and what it emits in one transaction, else a verdict."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from itertools import groupby

from dataaggregator.bus import inbox, parked
from dataaggregator.bus.applying import Delivery, NotFoldedError, apply
from dataaggregator.bus.handler import Handler, handler_table
from dataaggregator.bus.verdict import Ack, Park, Retry, SequenceGap, Verdict, had_its_tries, reason, verdict
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE, Event
from dataaggregator.db import Connection, Database
from dataaggregator.errors import Invalid
from dataaggregator.telemetry import logs, metrics, traces

log = logs.get("bus")

FOLDED_AT_ONCE = 100
FOLDS_AT_ONCE = 4
CLAIMED_AT_ONCE = 100
CLAIM_SECONDS = 60.0
RETRIED_AT_ONCE = 4

CALLS_OF_A_DELIVERY = 3
"""A handler is called for an event with other subjects' in one transaction, with those of its own, and alone, where
each but the last failed."""


class Consumer:
    """The receiving side of one service, the same under every adapter."""

    def __init__(
        self, database: Database, schema: str, handlers: Sequence[Handler], suspects: asyncio.Lock | None = None
    ) -> None:
        """`suspects` is shared by the consumers of a process: of the events that may end it one is tried at a time."""
        self._database = database
        self.schema = schema
        self.handlers: Mapping[str, Handler] = handler_table(handlers)
        self._suspects = suspects or asyncio.Lock()
        self._room = asyncio.Semaphore(RETRIED_AT_ONCE)
        self._folds = asyncio.Semaphore(FOLDS_AT_ONCE)

    async def deliver(self, event: Event, tries: int = 1, *, waited: bool = False) -> Verdict:
        """Apply an event for the `tries`th time; `waited` if it has a retry row. Returns when the outcome is committed.

        Raises only if not even the verdict could be stored: then the event is not to be acknowledged.
        """
        return await self._deliver(Delivery(event, self._handler(event), tries, waited))

    async def _deliver(self, delivery: Delivery) -> Verdict:
        event = delivery.event
        try:
            async with self._transaction(event) as tx:
                (outcome,) = await self._apply(tx, [delivery])
        except Exception as error:
            tries = delivery.tries - delivery.gaps
            delivery = replace(delivery, tries=tries, gaps=0)
            with traces.continue_from(event.traceparent, f"judge {event.type}"):
                outcome = verdict(error, tries)
                self._tell(event, outcome, error, tries)
                async with self._transaction(event) as tx:
                    await self._keep(tx, delivery, outcome, error)
        self._count(delivery, outcome)
        return outcome

    def _handler(self, event: Event) -> Handler:
        """Also for what is handled here no more, such as a retry row of an older version: then it is parked."""
        return self.handlers.get(event.type) or Handler(self.schema, Message, _unhandled)

    async def deliver_chain(self, chain: Sequence[Event], tries: int = 1) -> int:
        """Deliver the events of one subject in their order, for the `tries`th time.

        Returns how many outcomes are committed, from the first.
        """
        return await self._follow([Delivery(event, self._handler(event), tries) for event in chain])

    async def deliver_chains(self, chains: Sequence[Sequence[Event]]) -> list[int]:
        """Deliver many chains, as `deliver_chain` each, and as many in one transaction as go together."""
        return await self._follow_all([[Delivery(event, self._handler(event)) for event in chain] for chain in chains])

    async def _follow_all(self, made: list[list[Delivery]]) -> list[int]:
        committed = [0] * len(made)

        async def follow(places: Sequence[int]) -> None:
            async with self._folds:
                calls: int | None = 0
                if len(places) > 1:
                    calls = await self._fold([one for place in places for one in made[place]])
                for place in places:
                    if calls is None:
                        committed[place] = len(made[place])
                    else:
                        committed[place] = await self._follow(_called(made[place], calls))

        async with asyncio.TaskGroup() as tasks:
            for places in _going_together(made):
                tasks.create_task(follow(places))
        return committed

    async def retry_due(self) -> int:
        """Deliver what is due again, a subject's events in their order; returns how many were.

        What was left unjudged by an end of the process comes last, and one at a time in the whole process: each try
        counts against it, and it shall be no other service's suspect that ends the process meanwhile.
        """
        async with self._database.platform() as tx:
            due = await inbox.claim_due(
                tx, self.schema, limit=CLAIMED_AT_ONCE, lease_seconds=CLAIM_SECONDS, calls=CALLS_OF_A_DELIVERY
            )
        if due:
            await self._deliver_due(due)
            return len(due)
        async with self._suspects:
            async with self._database.platform() as tx:
                due = await inbox.claim_suspect(tx, self.schema, lease_seconds=CLAIM_SECONDS, calls=CALLS_OF_A_DELIVERY)
            await self._deliver_due(due)
        return len(due)

    async def _deliver_due(self, due: Sequence[inbox.Waiting]) -> None:
        chains: dict[tuple[str, str], list[Delivery]] = {}
        for row in due:
            calls = row.tries - row.gaps
            if had_its_tries(calls, row.unjudged):
                await self.set_aside(row.event, calls - 1)
                continue
            handler = self._handler(row.event)
            delivery = Delivery(row.event, handler, row.tries, waited=True, gaps=row.gaps, alone=not row.gap)
            chains.setdefault((row.event.source, row.event.subject), []).append(delivery)
        async with asyncio.TaskGroup() as tasks:
            # What was only early goes together, as when it came.
            tasks.create_task(self._follow_all([each for each in chains.values() if not _has_failed(each)]))
            for chain in chains.values():
                if _has_failed(chain):
                    tasks.create_task(self._retry(chain))

    async def suspect(self, events: Sequence[Event]) -> None:
        """Let events that were delivered before, with an end unknown, be tried one at a time, each try counted."""
        async with self._database.platform() as tx:
            for event in events:
                await inbox.suspect(tx, self.schema, event, tries=CALLS_OF_A_DELIVERY)

    async def set_aside(self, event: Event, tries: int, why: tuple[str, str] | None = None) -> None:
        """Park an event without a delivery; without a reason, because the process ended in each of its deliveries."""
        why = why or ("event-poisonous", f"the process ended while it was delivered, for the last time at try {tries}")
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

    async def _retry(self, chain: Sequence[Delivery]) -> None:
        async with self._room:
            await self._follow(chain)  # what could not even be judged is due again after the claim

    async def _follow(self, chain: Sequence[Delivery]) -> int:
        """In one transaction, which saves all commits but one; if an event fails, each in its own."""
        done = 0
        for part in _parts(chain):
            calls = await self._fold(part) if len(part) > 1 else 0
            if calls is None:
                done += len(part)
                continue
            for one in _called(part, calls):
                try:
                    await self._deliver(one)
                except Exception as error:
                    why = reason(error)[1]
                    log.warning("delivery_interrupted", schema=self.schema, type=one.event.type, reason=why)
                    return done
                done += 1
        return done

    async def _fold(self, part: Sequence[Delivery]) -> int | None:
        """All of them in one transaction: None, or how often each handler may have been called in vain."""
        if len({one.event.workspace_id for one in part}) > 1:
            return 0
        try:
            async with self._transaction(part[0].event) as tx:
                outcomes = await self._apply(tx, part)
        except NotFoldedError:
            return 0
        except Exception as error:
            log.debug("events_not_folded", schema=self.schema, type=part[0].event.type, reason=reason(error)[1])
            return 1
        for one, outcome in zip(part, outcomes, strict=True):
            self._count(one, outcome)
        return None

    def _transaction(self, event: Event) -> AbstractAsyncContextManager[Connection]:
        if event.workspace_id == PLATFORM_WORKSPACE:
            return self._database.platform()
        return self._database.transaction(event.workspace_id)

    async def _apply(self, tx: Connection, deliveries: Sequence[Delivery]) -> list[Verdict]:
        """Inbox rows and effects, and the rows of those that came before an earlier event of their subject."""
        gaps = await apply(tx, self.schema, deliveries)
        outcomes: list[Verdict] = [Ack()] * len(deliveries)
        for place, gap in gaps.items():
            outcomes[place] = verdict(gap, deliveries[place].tries)
            await self._keep(tx, deliveries[place], outcomes[place], gap)
        return outcomes

    async def _keep(self, tx: Connection, delivery: Delivery, outcome: Verdict, error: Exception) -> None:
        event, tries = delivery.event, delivery.tries
        match outcome:
            case Ack():  # nothing to do, in whatever state things are: written down without its effects
                await apply(tx, self.schema, [delivery], effects=False)
            case Retry(after_seconds):
                await inbox.retry(
                    tx,
                    self.schema,
                    event,
                    tries=tries,
                    calls=tries - delivery.gaps - 1 if isinstance(error, SequenceGap) else 0,
                    waited=delivery.waited,
                    why=reason(error),
                    after_seconds=after_seconds,
                )
            case Park():
                await parked.park(tx, self.schema, event, tries=tries, why=reason(error))

    def _count(self, delivery: Delivery, outcome: Verdict) -> None:
        metrics.BUS_CONSUMED.of(delivery.handler.service, type(outcome).__name__.lower()).inc()

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


def _going_together(chains: Sequence[Sequence[Delivery]]) -> list[list[int]]:
    """The places of chains of one workspace, in the order of their subjects, so many events at once as are folded."""
    parts: list[list[int]] = []
    events = FOLDED_AT_ONCE
    workspace = None
    for place in sorted(
        range(len(chains)), key=lambda n: (chains[n][0].event.workspace_id.bytes, chains[n][0].subject)
    ):
        mine = chains[place][0].event.workspace_id
        events += len(chains[place])
        if mine != workspace or events > FOLDED_AT_ONCE:
            parts.append([])
            workspace, events = mine, len(chains[place])
        parts[-1].append(place)
    return parts


def _has_failed(chain: Sequence[Delivery]) -> bool:
    return any(one.alone for one in chain)


def _parts(chain: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """So many at once as are folded, each that goes alone by itself."""
    for alone, group in groupby(chain, key=lambda one: one.alone):
        together = list(group)
        size = 1 if alone else FOLDED_AT_ONCE
        for begin in range(0, len(together), size):
            yield together[begin : begin + size]


def _called(part: Sequence[Delivery], calls: int) -> list[Delivery]:
    """The same, after their handlers may have been called so often together, in vain."""
    return [replace(one, tries=one.tries + calls) for one in part]


async def _unhandled(event: Event, _: Connection) -> None:
    raise Invalid("event-unreadable", f"Nobody here handles {event.type} any more.")
