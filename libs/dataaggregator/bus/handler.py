"""The bus: who handles what, as data."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from dataaggregator.contracts.base import Message
from dataaggregator.contracts.envelope import MESSAGES, Event
from dataaggregator.db import Connection

Handle = Callable[[Event, Connection], Awaitable[None]]
HandleAll = Callable[[Sequence[Event], Connection], Awaitable[None]]


@dataclass(frozen=True)
class Handler:
    """One message of one service. `handle` works in the transaction it is given and touches nothing outside of it.

    An ordered handler sees the events of a (source, subject) without holes: the next one is applied, an older one
    ignored, a newer one waits until the gap closes. So a service that orders one message must handle and order all
    messages of its family (the part of the name before the first dot) that the same service says.

    `handle_all` does the same for several events at once, in their order, where fewer statements can do it.
    """

    service: str
    message: type[Message]
    handle: Handle
    ordered: bool = False
    handle_all: HandleAll | None = None


def alone(handle_all: HandleAll) -> Handle:
    """The `handle` of one event, done as that of several."""

    async def handle(event: Event, tx: Connection) -> None:
        await handle_all([event], tx)

    return handle


def handler_table(handlers: Sequence[Handler]) -> Mapping[str, Handler]:
    """Handlers by event type; a second one for the same message is our mistake."""
    table: dict[str, Handler] = {}
    for handler in handlers:
        name = handler.message.event_type
        if name in table:
            raise ValueError(f"{handler.service} handles {name} twice")
        table[name] = handler
    _check_order(table)
    return table


def _check_order(table: Mapping[str, Handler]) -> None:
    """A message left out would be a gap that never closes."""
    for name, handler in table.items():
        if not handler.ordered:
            continue
        for other in MESSAGES.values():
            same = _family(other) == _family(handler.message)
            found = table.get(other.event_type)
            if same and not other.ephemeral and not (found and found.ordered):
                raise ValueError(f"{handler.service} orders {name}, so it must handle and order {other.event_type}")


def _family(message: type[Message]) -> tuple[str, str]:
    return message.event_type.partition(".")[0], message.said_by
