"""Every message of proto/ and its class say the same: the same fields, of the same types."""

import types
from datetime import datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.envelope import MESSAGES
from dataaggregator.contracts.steps import STEPS
from tests.contract.descriptors import messages, shape

SCALARS: dict[Any, str] = {
    str: "string",
    Duration: "string",
    UUID: "string",
    bool: "bool",
    int: "int64",
    float: "double",
    datetime: "Timestamp",
    Any: "Value",
}
UNIONS = (Union, types.UnionType)


def expected(model: type[BaseModel]) -> dict[str, str]:
    return {field.alias or name: _shape(field) for name, field in model.model_fields.items()}


def reachable() -> dict[str, type[BaseModel]]:
    """Every class that can be part of an event."""
    found: dict[str, type[BaseModel]] = {}
    waiting: list[type[BaseModel]] = list(MESSAGES.values())
    while waiting:
        model = waiting.pop()
        if model.__name__ not in found:
            found[model.__name__] = model
            for field in model.model_fields.values():
                waiting += _models(field.annotation)
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _shape(field: FieldInfo) -> str:
    bare, optional = _without_none(field.annotation)
    match get_origin(bare):
        case origin if origin is tuple:
            return f"repeated {_word(get_args(bare)[0])}"
        case origin if origin is dict:
            value = _bare(get_args(bare)[1])
            return "Struct" if value is Any else f"map<string, {_word(value)}>"
    word = _word(bare)
    return f"optional {word}" if optional and word in ("string", "bool", "int64", "double") else word


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _without_none(annotation: Any) -> tuple[Any, bool]:
    annotation = _bare(annotation)
    if get_origin(annotation) not in UNIONS or type(None) not in get_args(annotation):
        return annotation, False
    rest = [_bare(part) for part in get_args(annotation) if part is not type(None)]
    return (rest[0] if len(rest) == 1 else Union[tuple(rest)]), True  # noqa: UP007 - made at run time


def _word(annotation: Any) -> str:
    bare = _bare(annotation)
    if bare in SCALARS:
        return SCALARS[bare]
    if get_origin(bare) is Literal:
        return "string"
    if get_origin(bare) in UNIONS:
        members = {_bare(part) for part in get_args(bare)}
        return "Step" if members == set(STEPS) else "Value"
    return str(bare.__name__)


CLASSES = {name: model for name, model in reachable().items() if model not in STEPS}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_class_and_its_message_have_the_same_fields(name: str) -> None:
    assert name in messages(), f"proto/ has no message {name}"
    found = {field.name: shape(field) for field in messages()[name].fields}
    assert found == expected(CLASSES[name])


def test_the_message_step_has_the_fields_of_every_kind_of_step() -> None:
    found = {field.name: shape(field) for field in messages()["Step"].fields}
    together: dict[str, str] = {}
    for step in STEPS:
        for name, word in expected(step).items():
            together[name] = "optional string" if word == "string" else word
    assert found == together


def test_every_message_of_proto_has_a_class() -> None:
    assert set(messages()) == {*CLASSES, "Step", "Event"}


@pytest.mark.parametrize("name", sorted(messages()))
def test_field_numbers_are_given_once_and_without_holes(name: str) -> None:
    numbers = [field.number for field in messages()[name].fields]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_a_type_is_its_name_on_the_bus_and_ends_with_a_version() -> None:
    for name, message in MESSAGES.items():
        assert name == message.event_type
        assert name.rsplit(".", 1)[1] == "v1"
