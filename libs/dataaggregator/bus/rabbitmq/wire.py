"""The bus, RabbitMQ: an event as a message and back: CloudEvents 1.0, AMQP binary mode, attributes as headers.

Source: CloudEvents AMQP protocol binding 1.0.2, section 3.1, with the prefix `cloudEvents_`.
"""

from datetime import datetime
from typing import Any

import orjson
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage

from dataaggregator.contracts.envelope import MESSAGES, Event, rfc3339
from dataaggregator.errors import Invalid

PREFIX = "cloudEvents_"
CONTENT_TYPE = "application/json"
APPLICATION = "dataaggregator"


def to_message(event: Event) -> Message:
    """The event as it travels; persistent unless its type may be lost."""
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(event.id),
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "time": rfc3339(event.time),
        "sequence": event.sequence,
        "workspaceid": str(event.workspace_id),
    }
    if event.traceparent is not None:
        attributes["traceparent"] = event.traceparent
    message = MESSAGES.get(event.type)
    lasting = message is None or not message.ephemeral
    return Message(
        orjson.dumps(event.data),
        headers={PREFIX + name: value for name, value in attributes.items()},
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT if lasting else DeliveryMode.NOT_PERSISTENT,
        message_id=str(event.id),
        timestamp=event.time,
        type=event.type,
        app_id=APPLICATION,
    )


def to_event(message: AbstractIncomingMessage) -> Event:
    """The event that a message carries; `event-unreadable` if it is none of this platform's."""
    attributes = {
        name.removeprefix(PREFIX): _text(value) for name, value in message.headers.items() if name.startswith(PREFIX)
    }
    try:
        data = orjson.loads(message.body)
    except orjson.JSONDecodeError as error:
        raise Invalid("event-unreadable", f"The body of a message of {message.routing_key} is no JSON.") from error
    return Event.from_cloudevent({**attributes, "data": data})


def _text(value: Any) -> Any:
    """A header as the broker hands it on: what other clients sent as a timestamp or as bytes is told as text."""
    if isinstance(value, datetime):
        return rfc3339(value)
    return value.decode(errors="replace") if isinstance(value, bytes | bytearray) else value
