"""The document of the events is valid, and every event is what it says."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from dataaggregator.bus.rabbitmq.topology import exchange_of
from dataaggregator.bus.rabbitmq.wire import to_message
from dataaggregator.contracts import asyncapi
from dataaggregator.contracts.envelope import PUBLIC, Event
from tests.contract.conftest import Tools
from tests.contract.test_golden import golden

DOCUMENT = asyncapi.document()


def faults(schema: str, value: object) -> list[str]:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_what_the_bus_sends_is_what_the_document_says(name: str) -> None:
    sent = to_message(Event.from_cloudevent(golden(name)))
    assert faults(PUBLIC[name].__name__, json.loads(sent.body)) == []
    assert faults("Attributes", dict(sent.headers)) == []
    assert sent.content_type == DOCUMENT["components"]["messages"][name]["contentType"]
    assert sent.type == DOCUMENT["components"]["messages"][name]["bindings"]["amqp"]["messageType"]
    assert sent.message_id == sent.headers["cloudEvents_id"]
    assert sent.delivery_mode == DOCUMENT["operations"][name]["bindings"]["amqp"]["deliveryMode"]
    channel = DOCUMENT["channels"][name]
    assert (channel["address"], channel["bindings"]["amqp"]["exchange"]["name"]) == (name, exchange_of(name))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_what_is_promised_to_be_there_must_be_there(name: str) -> None:
    data, schema = golden(name)["data"], DOCUMENT["components"]["schemas"][PUBLIC[name].__name__]
    for field in schema["required"]:
        assert faults(PUBLIC[name].__name__, {key: value for key, value in data.items() if key != field}) != []


def test_no_field_may_be_null() -> None:
    """What is not set is left out on the wire."""
    fields = [
        (name, field, told)
        for name, schema in DOCUMENT["components"]["schemas"].items()
        for field, told in schema.get("properties", {}).items()
    ]
    assert [(name, field) for name, field, told in fields if {"type": "null"} in told.get("anyOf", ())] == []


def test_the_document_is_valid(tools: Tools, tmp_path: Path) -> None:
    file = tmp_path / "asyncapi.json"
    file.write_text(json.dumps(DOCUMENT))
    done = tools.script(tools.folder / "asyncapi.mjs", str(file))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("operations", "run.started.v1", "action"), "shout"),
        (("operations", "run.started.v1", "channel"), {"$ref": "#/channels/nowhere"}),
        (("channels", "run.started.v1", "bindings", "amqp", "is"), "stream"),
        (("components", "schemas", "RunStarted", "type"), "thing"),
    ],
    ids=["action", "reference", "binding", "schema"],
)
def test_a_fault_in_a_document_is_found(tools: Tools, tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    wrong = json.loads(json.dumps(DOCUMENT))
    at = wrong
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    file = tmp_path / "asyncapi.json"
    file.write_text(json.dumps(wrong))
    done = tools.script(tools.folder / "asyncapi.mjs", str(file))
    assert done.returncode == 1
    assert done.stderr
