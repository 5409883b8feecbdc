"""One written-down event of each type: what is on the wire today can be read tomorrow."""

import json
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.contracts.envelope import MESSAGES, Event
from tests.contract.descriptors import parse

GOLDEN = Path(__file__).parent / "golden"


def golden(event_type: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((GOLDEN / f"{event_type}.json").read_text())
    return event


def test_every_message_has_a_golden_event_and_every_golden_event_a_message() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(MESSAGES)


@pytest.mark.parametrize("event_type", sorted(MESSAGES))
def test_a_golden_event_is_read_and_written_without_loss(event_type: str) -> None:
    written = golden(event_type)
    event = Event.from_cloudevent(written)
    assert event.cloudevent() == written
    data = event.read(MESSAGES[event_type]).model_dump(mode="json", exclude_none=True)
    assert data == written["data"]


@pytest.mark.parametrize("event_type", sorted(MESSAGES))
def test_a_golden_event_is_what_proto_says(event_type: str) -> None:
    written = golden(event_type)
    envelope = parse("Event", written)
    assert envelope["type"] == event_type
    again = parse(MESSAGES[event_type].__name__, written["data"])  # protobuf leaves out what is zero, false or empty
    assert {name for name, value in written["data"].items() if value} <= set(again) <= set(written["data"])


@pytest.mark.parametrize("event_type", sorted(MESSAGES))
def test_a_field_from_a_later_version_is_ignored(event_type: str) -> None:
    written = golden(event_type)
    later = Event.from_cloudevent({**written, "later": 1, "data": {**written["data"], "later": {"a": 1}}})
    message = MESSAGES[event_type]
    assert later.read(message) == Event.from_cloudevent(written).read(message)


@pytest.mark.parametrize("event_type", sorted(MESSAGES))
def test_the_golden_event_shows_every_field(event_type: str) -> None:
    """So that no field goes untested; what an end without an error cannot show, another end does."""
    absent = {"error", "started_at"} if event_type.startswith("run.") else set()
    shown = set(golden(event_type)["data"])
    declared = {field.alias or name for name, field in MESSAGES[event_type].model_fields.items()}
    assert declared - shown <= absent
