"""The bus: who handles what, as data."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from dataaggregator.contracts.base import Message
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection


@dataclass(frozen=True)
class Handler:
    """One message of one service. `handle` works in the transaction it is given and touches nothing outside of it.

    An ordered handler sees the events of a (source, subject) without holes: the next one is applied, an older one
    ignored, a newer one waits until the gap closes. So a service that orders one message of a family (the part of
    its name before the dot) must handle and order all messages of that family that the same source says.
    """

    service: str
    message: type[Message]
    handle: Callable[[Event, Connection], Awaitable[None]]
    ordered: bool = False


def handler_table(handlers: Sequence[Handler]) -> Mapping[str, Handler]:
    """Handlers by event type; a second one for the same message is our mistake."""
    table: dict[str, Handler] = {}
    for handler in handlers:
        name = handler.message.event_type
        if name in table:
            raise ValueError(f"{handler.service} handles {name} twice")
        table[name] = handler
    return table
