"""Contracts: what each part of a definition says of the connector it uses, and of how it reads."""

from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import Sent
from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.modes import ReadMode


class NamedConnector(Sent):
    """A connector as its user wrote it, by name or id."""

    connector: str = Field(min_length=1, max_length=100)


class KnownConnector(Sent):
    """A connector that was found; its configuration is asked for when a run starts."""

    connector_id: UUID
    connector_name: str
    connector_type: str


class Reading(Sent):
    """`lateness` is how long after its time a row may still turn up: an incremental read begins that much before its
    cursor, so that such a row is read, and the others of that time once more."""

    read: ReadMode = "full_refresh"
    lateness: Duration | None = None

    @model_validator(mode="after")
    def _late_rows_are_new_rows(self) -> "Reading":
        if self.lateness is not None and self.read != "incremental":
            raise PydanticCustomError("lateness", "lateness belongs to read: incremental")
        return self
