"""The bus: the port every adapter offers; the conformance suite says what it means."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from dataaggregator.bus.handler import Handler
from dataaggregator.contracts.envelope import Event
from dataaggregator.resource import Resource

Observer = Callable[[Event], None]
LoopBody = Callable[[], Awaitable[None]]


class Bus(Resource, Protocol):
    """Carries events from the outboxes of some schemas to the handlers of others."""

    def subscribe(self, schema: str, handlers: Sequence[Handler]) -> None:
        """Deliver to these handlers, whose service owns `schema` with its inbox; before the loops are begun."""

    def loops(self, schema: str) -> Mapping[str, LoopBody]:
        """What must run for a schema, by name: its relay, its retries, the sweeping of what is old."""

    async def publish_ephemeral(self, event: Event) -> None:
        """Deliver once, now, without outbox and inbox; it may be lost and never raises."""

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call `observer` for each ephemeral event; returns what stops it."""
