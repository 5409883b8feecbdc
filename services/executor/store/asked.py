"""store, asked: what must be readable of run.queued to accept the run at all; an attempt then judges the rest of it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from dataaggregator.contracts.base import Time, Told
from dataaggregator.contracts.priorities import PLACES
from dataaggregator.errors import Invalid


class Asked(Told):
    """What the row of a run is made of."""

    run_id: UUID
    pipeline_id: UUID
    pipeline_name: str
    queued_at: Time
    priority: str = "normal"
    definition: Any = None
    """What of it is not understood here is judged by the attempt."""

    @classmethod
    def read(cls, data: dict[str, Any]) -> "Asked":
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            detail = f"run.queued without what names the run: {error.error_count()} faults"
            raise Invalid("event-unreadable", detail) from error

    @property
    def place(self) -> int:
        """Its priority as it is sorted by; one that is not known here counts as normal."""
        places: Mapping[str, int] = {str(priority): place for priority, place in PLACES.items()}
        return places.get(self.priority, PLACES["normal"])

    @property
    def runs_on(self) -> Sequence[str]:
        """The labels it asks for, in their order."""
        named = _fields(self.definition).get("runs_on")
        return sorted({one for one in named if isinstance(one, str)}) if isinstance(named, list) else []

    @property
    def connectors(self) -> Sequence[UUID]:
        """Those it reads from and writes to, each once."""
        definition = _fields(self.definition)
        loaded = definition.get("destinations")
        parts = [
            *_fields(definition.get("sources")).values(),
            *_fields(definition.get("replicate")).values(),
            *(loaded if isinstance(loaded, list) else ()),
        ]
        named = (_id(_fields(part).get("connector_id")) for part in parts)
        return list(dict.fromkeys(id_ for id_ in named if id_ is not None))


def _fields(part: Any) -> Mapping[str, Any]:
    return part if isinstance(part, dict) else {}


def _id(text: Any) -> UUID | None:
    try:
        return UUID(text)
    except (TypeError, ValueError, AttributeError):
        return None
