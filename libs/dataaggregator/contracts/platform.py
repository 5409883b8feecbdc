"""Contracts: what the parts of the platform tell each other about the bus itself."""

from typing import ClassVar

from dataaggregator.contracts.base import Channel, Many, Message, Time


class BusResendRequested(Message):
    """A binding was missing: events of these types published since then may not have reached the service that asks.

    Who has published such events publishes them again; whoever had got them ignores the copies.
    """

    event_type: ClassVar[str] = "bus.resend_requested.v1"
    said_by: ClassVar[str] = ""
    channel: ClassVar[Channel] = "internal"
    types: Many[str]
    since: Time
