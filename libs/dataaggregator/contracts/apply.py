"""Contracts: definitions that are applied together: what their owners ask each other, and the difference told."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from dataaggregator.contracts.base import Many, Sent, Told
from dataaggregator.contracts.connector import ConnectorDefinition
from dataaggregator.contracts.fields import field_path
from dataaggregator.definition import Author
from dataaggregator.errors import Denied, FieldError, Invalid

Kind = Literal["connector", "transformation", "pipeline"]
KINDS: tuple[Kind, ...] = ("connector", "transformation", "pipeline")
MOST_DEFINITIONS = 1000

# A definition that does not say its kind is told by fields that only its kind has.
_SHAPES: Mapping[str, Kind] = {
    "sources": "pipeline",
    "destinations": "pipeline",
    "replicate": "pipeline",
    "type": "connector",
    "config": "connector",
    "steps": "transformation",
}
_NOTHING = object()


class FieldChange(Told):
    """One field that is not as it was; a secret is `"********"` on both sides."""

    field: str
    change: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


class Change(Told):
    """What became of one definition; `id` is null where a dry run would create it."""

    index: int = Field(description="Its place among the definitions that were sent.")
    kind: Kind
    name: str
    outcome: Literal["created", "updated", "unchanged"]
    id: UUID | None
    version: int
    fields: tuple[FieldChange, ...] = Field((), description="Of an updated one: what is not as it was.")


class AskedConnector(Sent):
    """A connector as it should be: `id` is for one that is new, `version` the one it must have (0: none, null: any)."""

    index: int
    id: UUID
    definition: ConnectorDefinition
    version: int | None = None


class AskedConnectors(Sent):
    """All of these, or none; a dry run leaves nothing behind."""

    author: Author
    dry_run: bool
    connectors: Many[AskedConnector]


class ToldConnectors(Told):
    changes: tuple[Change, ...]


class Variable(Told):
    """A variable of the environment that stands where an export left a secret out."""

    name: str
    connector: str
    field: str


class ExportedConnectors(Told):
    definitions: tuple[ConnectorDefinition, ...]
    variables: tuple[Variable, ...]


def kind_of(document: Mapping[str, Any]) -> Kind | None:
    """What a document says it is, or what its fields tell; None where neither does."""
    if "kind" in document:
        return next((kind for kind in KINDS if kind == document["kind"]), None)
    return next((kind for field, kind in _SHAPES.items() if field in document), None)


def place_of(index: int) -> str:
    """The field path of a definition among those that were sent."""
    return f"definitions[{index}]"


@contextmanager
def gathering(wrong: list[FieldError], index: int) -> Iterator[None]:
    """What is wrong with a definition joins what is wrong with others; what nobody may do is not about one of them."""
    try:
        yield
    except Denied:
        raise
    except Invalid as error:
        place = place_of(index)
        found = error.errors or (FieldError("", error.detail, error.code),)
        wrong += [FieldError(f"{place}.{one.field}".rstrip("."), one.message, one.code) for one in found]


def refused(wrong: list[FieldError]) -> Invalid:
    """All that is wrong, in one answer."""
    definitions = {one.field.partition("]")[0] for one in wrong}
    detail = f"{len(definitions)} of the definitions are wrong; nothing was changed."
    return Invalid("definitions-invalid", detail, errors=wrong)


def differences(before: Any, after: Any, path: tuple[str | int, ...] = ()) -> Iterator[FieldChange]:
    """Between two plain JSON values, field by field."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in {**before, **after}:
            yield from differences(before.get(name, _NOTHING), after.get(name, _NOTHING), (*path, name))
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            here, there = (values[index] if index < len(values) else _NOTHING for values in (before, after))
            yield from differences(here, there, (*path, index))
    elif before is _NOTHING:
        yield FieldChange(field=field_path(path), change="added", after=after)
    elif after is _NOTHING:
        yield FieldChange(field=field_path(path), change="removed", before=before)
    elif before != after:
        yield FieldChange(field=field_path(path), change="changed", before=before, after=after)
