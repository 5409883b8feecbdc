"""Contracts: the AsyncAPI 3 document of all public events, from the very classes that are sent."""

import inspect
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from dataaggregator.contracts.base import Message
from dataaggregator.contracts.envelope import PUBLIC

EXCHANGE = "dataaggregator.events"
_REF = "#/components/schemas/{model}"
_BINDING = "0.3.0"

ATTRIBUTES: dict[str, Any] = {
    "type": "object",
    "description": "The attributes of the CloudEvent; the body is its data.",
    "properties": {
        "cloudEvents_specversion": {"type": "string", "const": "1.0"},
        "cloudEvents_id": {"type": "string", "format": "uuid", "description": "Dedupes; also the AMQP message id."},
        "cloudEvents_type": {"type": "string", "description": "Also the AMQP type and the routing key."},
        "cloudEvents_source": {"type": "string", "description": "The service that says it."},
        "cloudEvents_subject": {"type": "string", "description": "The id of the resource it is about."},
        "cloudEvents_time": {"type": "string", "format": "date-time", "description": "When it happened, in UTC."},
        "cloudEvents_sequence": {
            "type": "integer",
            "minimum": 0,
            "description": "Counts per source and subject from 1 without holes; 0 for what may be lost.",
        },
        "cloudEvents_workspaceid": {
            "type": "string",
            "format": "uuid",
            "description": "Whose it is; all zeros for what belongs to no workspace.",
        },
        "cloudEvents_traceparent": {"type": "string", "description": "W3C Trace Context, if there is one."},
    },
    "required": [
        f"cloudEvents_{name}"
        for name in ("specversion", "id", "type", "source", "subject", "time", "sequence", "workspaceid")
    ],
}


def document() -> dict[str, Any]:
    """One channel an event: its routing key on the topic exchange."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Data Aggregator Platform: events",
            "version": version("dataaggregator"),
            "description": (
                "CloudEvents 1.0 in AMQP binary mode (headers with the prefix cloudEvents_); over SSE the same events "
                "in JSON mode. Delivered at least once, ids dedupe; run.progressed may be lost. Bind a queue of your "
                "own to the exchange. Fields may be added: ignore those you do not know."
            ),
        },
        "defaultContentType": "application/json",
        "servers": {
            "bus": {
                "host": "rabbitmq:5672",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "The RabbitMQ that RABBITMQ_URL names.",
            }
        },
        "channels": {name: _channel(name) for name in PUBLIC},
        "operations": {name: _operation(name, message) for name, message in PUBLIC.items()},
        "components": {
            "messages": {name: _message(name, message) for name, message in PUBLIC.items()},
            "schemas": _schemas() | {"Attributes": ATTRIBUTES},
        },
    }


def told(message: type[Message]) -> str:
    """When it is said, in a sentence or two."""
    return (inspect.getdoc(message) or message.__name__).partition("\n\n")[0]


def _schemas() -> dict[str, Any]:
    """The data of every event and their parts, as they travel: what is not set is left out and never null."""
    _, shared = models_json_schema([(message, "serialization") for message in PUBLIC.values()], ref_template=_REF)
    schemas: dict[str, Any] = shared.get("$defs", {})
    for schema in schemas.values():
        _leave_out_null(schema)
    return schemas


def _leave_out_null(schema: dict[str, Any]) -> None:
    absent = set()
    for name, field in schema.get("properties", {}).items():
        variants = [one for one in field.get("anyOf", ()) if one != {"type": "null"}]
        if len(variants) < len(field.get("anyOf", ())):
            absent.add(name)
            rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
            schema["properties"][name] = rest | (variants[0] if len(variants) == 1 else {"anyOf": variants})
    if "required" in schema:
        schema["required"] = [name for name in schema["required"] if name not in absent]


def _channel(name: str) -> dict[str, Any]:
    exchange = {"name": EXCHANGE, "type": "topic", "durable": True, "autoDelete": False}
    return {
        "address": name,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": _BINDING}},
    }


def _operation(name: str, message: type[Message]) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": told(message),
        "tags": [{"name": message.said_by}],
        "bindings": {"amqp": {"deliveryMode": 1 if message.ephemeral else 2, "bindingVersion": _BINDING}},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
    }


def _message(name: str, message: type[Message]) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "summary": told(message),
        "contentType": "application/json",
        "headers": {"$ref": _REF.format(model="Attributes")},
        "payload": {"$ref": _REF.format(model=message.__name__)},
        "bindings": {"amqp": {"messageType": name, "bindingVersion": _BINDING}},
    }
