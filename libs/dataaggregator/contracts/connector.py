"""Contracts: what is said about connectors and the schemas found behind them."""

from typing import ClassVar, Literal
from uuid import UUID

from dataaggregator.contracts.base import Message, Told


class ConnectorCreated(Message):
    """A connector was saved for the first time."""

    event_type: ClassVar[str] = "connector.created.v1"
    said_by: ClassVar[str] = "connectors"
    connector_id: UUID
    name: str
    type: str


class ConnectorUpdated(Message):
    """A connector's name or configuration changed."""

    event_type: ClassVar[str] = "connector.updated.v1"
    said_by: ClassVar[str] = "connectors"
    connector_id: UUID
    name: str
    type: str


class ConnectorDeleted(Message):
    """A connector is gone."""

    event_type: ClassVar[str] = "connector.deleted.v1"
    said_by: ClassVar[str] = "connectors"
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
