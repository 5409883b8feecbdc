"""Documents: the API of all services in one OpenAPI document, and the events in AsyncAPI."""

import asyncio
import inspect
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from dataaggregator.clock import Clock
from dataaggregator.contracts.base import Message
from dataaggregator.errors import PlatformError
from dataaggregator.http import openapi
from dataaggregator.http.client import ServiceClient

from .feed.domain import PUBLIC
from .routing import SERVICES

TITLE = "Data Aggregator Platform"
FRESH_SECONDS = 60.0
ASK_SECONDS = 5.0
EXCHANGE = "dataaggregator.events"
_REF = "#/components/schemas/{model}"


class Documents:
    """Keeps what each service last said, so that one that is down does not tear a hole into the document."""

    def __init__(self, services: ServiceClient, clock: Clock) -> None:
        self._services = services
        self._clock = clock
        self._known: dict[str, Mapping[str, Any]] = {}
        self._merged: dict[str, Any] | None = None
        self._asked_at = 0.0

    async def openapi(self) -> dict[str, Any]:
        now = self._clock.now().timestamp()
        complete = len(self._known) == len(SERVICES)
        if self._merged is None or not complete or now - self._asked_at >= FRESH_SECONDS:
            await asyncio.gather(*(self._ask(name) for name in SERVICES))
            self._merged = openapi.merge({name: self._known[name] for name in SERVICES if name in self._known}, TITLE)
            self._asked_at = now
        return self._merged

    async def _ask(self, name: str) -> None:
        try:
            self._known[name] = await self._services.get(name, "/internal/openapi.json", timeout_seconds=ASK_SECONDS)
        except PlatformError:
            return  # what it said before still stands; /api/status tells that it is down


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0 of all public events: one channel an event, its routing key on the topic exchange."""
    _, shared = models_json_schema([(message, "serialization") for message in PUBLIC.values()], ref_template=_REF)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"{TITLE}: events",
            "version": version("dataaggregator"),
            "description": (
                "CloudEvents 1.0 in AMQP binary mode (headers with the prefix cloudEvents_); over SSE the same events "
                "in JSON mode. Delivered at least once, ids dedupe; run.progressed may be lost."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name) for name in PUBLIC},
        "operations": {name: _operation(name, message) for name, message in PUBLIC.items()},
        "components": {
            "messages": {name: _message(name, message) for name, message in PUBLIC.items()},
            "schemas": shared.get("$defs", {}) | {"Attributes": _ATTRIBUTES},
        },
    }


_ATTRIBUTES: dict[str, Any] = {
    "type": "object",
    "description": "The attributes of the CloudEvent.",
    "properties": {
        "cloudEvents_specversion": {"type": "string", "const": "1.0"},
        "cloudEvents_id": {"type": "string", "format": "uuid"},
        "cloudEvents_type": {"type": "string"},
        "cloudEvents_source": {"type": "string", "description": "The service that says it."},
        "cloudEvents_subject": {"type": "string", "description": "The id of the resource it is about."},
        "cloudEvents_time": {"type": "string", "format": "date-time"},
        "cloudEvents_sequence": {"type": "integer", "description": "Counts per source and subject."},
        "cloudEvents_workspaceid": {"type": "string", "format": "uuid"},
        "cloudEvents_traceparent": {"type": "string"},
    },
    "required": ["cloudEvents_specversion", "cloudEvents_id", "cloudEvents_type", "cloudEvents_source"],
}


def _channel(name: str) -> dict[str, Any]:
    exchange = {"name": EXCHANGE, "type": "topic", "durable": True, "autoDelete": False}
    return {
        "address": name,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}},
    }


def _operation(name: str, message: type[Message]) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": _told(message),
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
    }


def _message(name: str, message: type[Message]) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "summary": _told(message),
        "contentType": "application/json",
        "headers": {"$ref": "#/components/schemas/Attributes"},
        "payload": {"$ref": _REF.format(model=message.__name__)},
    }


def _told(message: type[Message]) -> str:
    return (inspect.getdoc(message) or message.__name__).partition("\n\n")[0]
