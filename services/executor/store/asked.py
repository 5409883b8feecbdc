"""store, asked: what must be readable of run.queued to accept the run at all; an attempt then judges the rest of it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from dataaggregator.contracts.base import Time, Told
from dataaggregator.contracts.policies import PLACES
from dataaggregator.errors import Invalid


class Asked(Told):
    """What the row of a run is made of."""

    run_id: UUID
    pipeline_id: UUID
    pipeline_name: str
    queued_at: Time
    priority: str = "normal"

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
