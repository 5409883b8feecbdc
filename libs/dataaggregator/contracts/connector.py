"""Contracts: a connector as it is sent, what is said about connectors and the schemas found behind them."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.contracts.base import Message, Name, Told
from dataaggregator.contracts.capacity import MOST_LANES

Concurrency = Annotated[
    int | None,
    Field(
        ge=1,
        le=MOST_LANES,
        description="How many runs may use it at once, over all pipelines that read from it or write to it; null: as "
        "many as want to. A run that has to wait says so in `waiting_for`.",
    ),
]


class ConnectorDefinition(BaseModel):
    """A connector as it is sent: the fields of `config` are those of its type."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Name
    type: str = Field(min_length=1, max_length=100)
    config: dict[str, Any] = Field(
        description='As the type\'s config_schema says; a value may be {"$env": "NAME"} or {"$file": "path"}.'
    )
    concurrency: Concurrency = None


class ConnectorCreated(Message):
    """A connector was saved for the first time."""

    event_type: ClassVar[str] = "connector.created.v1"
    said_by: ClassVar[str] = "connectors"
    connector_id: UUID
    name: str
    type: str
    concurrency: int | None = Field(None, description="How many runs may use it at once; null: as many as want to.")


class ConnectorUpdated(Message):
    """A connector's name or configuration changed."""

    event_type: ClassVar[str] = "connector.updated.v1"
    said_by: ClassVar[str] = "connectors"
    connector_id: UUID
    name: str
    type: str
    concurrency: int | None = Field(None, description="How many runs may use it at once; null: as many as want to.")


class ConnectorDeleted(Message):
    """A connector is gone."""

    event_type: ClassVar[str] = "connector.deleted.v1"
    said_by: ClassVar[str] = "connectors"
    ends: ClassVar[bool] = True
    connector_id: UUID
    name: str


class ConnectorTested(Message):
    """A connector was tried out."""

    event_type: ClassVar[str] = "connector.tested.v1"
    said_by: ClassVar[str] = "connectors"
    connector_id: UUID
    ok: bool


class SchemaDifference(Told):
    """The stream was created (no field then), or one field came, went or changed its type."""

    kind: Literal["created", "added", "removed", "changed"]
    field: str | None = None
    before: str | None = None
    after: str | None = None


class DestinationDifference(SchemaDifference):
    """A difference between the rows and one destination's stream, which waits for approval or has it."""

    connector: str
    stream: str


class SchemaChanged(Message):
    """A destination's or a source's schema is not what it was. The event's subject is the connector's id."""

    event_type: ClassVar[str] = "schema.changed.v1"
    said_by: ClassVar[str] = "executor"
    connector_id: UUID
    pipeline_id: UUID | None = None
    run_id: UUID | None = None
    stream: str
    side: Literal["source", "destination"]
    changes: tuple[SchemaDifference, ...]
