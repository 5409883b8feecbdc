"""What every saved definition has, how it is edited, and who did it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from dataaggregator.errors import Invalid

D = TypeVar("D", bound=BaseModel)


@dataclass(frozen=True)
class KeyUsed:
    """The API key by which somebody acts, as it was called then."""

    id: UUID
    name: str


@dataclass(frozen=True)
class Author:
    """Who asks for a change, as the audit trail names them."""

    user_id: UUID | None
    name: str | None = None
    address: str | None = None
    request_id: str | None = None
    key: KeyUsed | None = None


def by_key(detail: Mapping[str, Any], key: KeyUsed | None) -> dict[str, Any]:
    """The detail of a line of the audit, with the key by which it was done."""
    return dict(detail) if key is None else {**detail, "api_key": {"id": str(key.id), "name": key.name}}


#: Whoever has the machine, and needs no login.
OPERATOR = Author(None, "operator")


@dataclass(frozen=True)
class Saved(Generic[D]):
    """A definition under its id; `written` is as its author wrote it, and as it is stored.

    It is read where it is used: what another version of the platform stored, and this one cannot read, stays a row
    that can be listed, replaced and deleted, and stops nobody else.
    """

    id: UUID
    workspace_id: UUID
    name: str
    version: int
    model: type[D]
    written: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    created_by: UUID | None

    @cached_property
    def definition(self) -> D:
        """Raises Invalid("definition-unreadable") saying what is wrong with it."""
        try:
            return self.model.model_validate(self.written)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "as a whole"
            detail = f"The stored definition of {self.name!r} cannot be read: {place}: {first['msg']}."
            raise Invalid("definition-unreadable", detail) from None

    def find_definition(self) -> D | None:
        """None if it cannot be read."""
        try:
            return self.definition
        except Invalid:
            return None

    @property
    def meta(self) -> Mapping[str, Any]:
        """The fields an answer shows beside the definition's own."""
        return {
            "id": self.id,
            "workspace_id": self.workspace_id,
            "name": self.name,
            "version": self.version,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "created_by": self.created_by,
        }


@dataclass(frozen=True)
class Edit(Generic[D]):
    """A change to the version that is there: `expect` refuses one the caller did not mean, `change` makes the next."""

    expect: Callable[[int], None]
    change: Callable[[Saved[D]], D]


@dataclass(frozen=True)
class Version:
    """One version a definition once had."""

    version: int
    definition: Mapping[str, Any]
    created_at: datetime
    created_by: UUID | None


@dataclass(frozen=True)
class Audited:
    """One line of the audit trail: `action` is past tense, such as "pipeline.paused"."""

    action: str
    resource_type: str
    resource_id: UUID | str
    detail: Mapping[str, Any] = field(default_factory=dict)


def key(reference: str) -> tuple[str, UUID | str]:
    """The column and value to look a definition up by: paths take an id or a name, and no name looks like an id."""
    try:
        return "id", UUID(reference)
    except ValueError:
        return "name", reference
