"""What every saved definition has, how it is edited, and who did it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

D = TypeVar("D")


@dataclass(frozen=True)
class Author:
    """Who asks for a change, as the audit trail names them."""

    user_id: UUID | None
    name: str | None = None
    address: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class Saved(Generic[D]):
    """A definition under its id; `definition` is as its author wrote it."""

    id: UUID
    workspace_id: UUID
    version: int
    definition: D
    created_at: datetime
    updated_at: datetime
    created_by: UUID | None

    @property
    def meta(self) -> Mapping[str, Any]:
        """The fields an answer shows beside the definition's own."""
        return {
            "id": self.id,
            "workspace_id": self.workspace_id,
            "version": self.version,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "created_by": self.created_by,
        }


@dataclass(frozen=True)
class Edit(Generic[D]):
    """A change to the version that is there: `expect` refuses one the caller did not mean, `change` makes the next."""

    expect: Callable[[int], None]
    change: Callable[[D], D]


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
    resource_id: UUID
    detail: Mapping[str, Any] = field(default_factory=dict)


def key(reference: str) -> tuple[str, UUID | str]:
    """The column and value to look a definition up by: paths take an id or a name, and no name looks like an id."""
    try:
        return "id", UUID(reference)
    except ValueError:
        return "name", reference
