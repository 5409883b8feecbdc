"""Connectors, HTTP door: what bodies and answers look like."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from dataaggregator.connector.spec import ConnectorType, config_schema
from dataaggregator.contracts.connector import ConnectorDefinition
from dataaggregator.contracts.files import FileState
from dataaggregator.contracts.modes import StreamName
from dataaggregator.http import definition
from dataaggregator.http.paging import PageQuery
from services.connectors.discoveries import Discovery
from services.connectors.domain import Connector


class WriteModeShown(BaseModel):
    mode: str
    delivery: Literal["exactly_once", "at_least_once"]


class ConnectorTypeShown(BaseModel):
    """A kind of system that can be connected; `config_schema` marks secrets as writeOnly."""

    type: str
    title: str
    roles: list[Literal["source", "destination"]]
    config_schema: dict[str, Any]
    read_modes: list[str]
    write_modes: list[WriteModeShown]
    side_by_side: bool = Field(
        description="Whether several runs of one pipeline (`concurrency`) may write to such a destination at once."
    )
    docs: str


class ConnectorShown(ConnectorDefinition):
    """A saved connector; a secret is shown as `"********"`."""

    id: UUID
    workspace_id: UUID
    version: int
    created_at: datetime
    updated_at: datetime
    created_by: UUID | None


class UnsavedConnector(BaseModel):
    """A configuration to be tried before it is saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str | None = None
    type: str = Field(min_length=1, max_length=100)
    config: dict[str, Any]


class CheckShown(BaseModel):
    """One step of a test; `help` is the section of the guide that cures what is wrong."""

    name: str
    ok: bool
    detail: str
    code: str | None = None
    help: str | None = None
    duration_ms: float


class TestShown(BaseModel):
    ok: bool
    checks: list[CheckShown]


class DiscoveryShown(BaseModel):
    """A discovery asked for; the streams are at its Location."""

    id: UUID
    connector_id: UUID
    status: Literal["queued", "running", "succeeded", "failed"]
    requested_at: datetime
    finished_at: datetime | None


class StreamShown(BaseModel):
    """A stream behind a connector; `schema` is a JSON Schema whose fields also carry their Arrow type."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)
    name: str
    fields: dict[str, Any] = Field(alias="schema")
    primary_key: list[str]
    cursor_fields: list[str]
    estimated_rows: int | None
    discovered_at: datetime


class PreviewWish(BaseModel):
    """Rows of a stream, or of a query (which needs the permission source:query)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stream: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    query: Annotated[str | None, Field(min_length=1, max_length=100_000)] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 20

    @model_validator(mode="after")
    def _one_of(self) -> "PreviewWish":
        if (self.stream is None) == (self.query is None):
            raise PydanticCustomError("preview", "give a stream or a query, exactly one of them")
        return self


class PreviewShown(BaseModel):
    """The rows, their schema, and those of the rows that could not be read."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, serialize_by_alias=True)
    fields: dict[str, Any] = Field(alias="schema")
    rows: list[dict[str, Any]]
    rejected: list[dict[str, Any]] = Field(default_factory=list)


class ResolveWish(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    connector_ids: Annotated[list[UUID], Field(max_length=1000)]


class ListWish(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    connector_id: UUID
    stream: StreamName


class Listed(BaseModel):
    """The files that fit a stream now."""

    files: list[FileState]


class KeptConnectors(BaseModel):
    """Asked for: connectors that were to be deleted; answered: those that are there and stay."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    connector_ids: Annotated[list[UUID], Field(max_length=1000)]


class ConnectorUse(BaseModel):
    type: str
    config: dict[str, Any]


class Resolved(BaseModel):
    """Connectors by id with their secrets opened: for an executor, at the start of an attempt."""

    connectors: dict[UUID, ConnectorUse]


class TypeQuery(PageQuery):
    sort: Literal["type"] | None = None


class ConnectorQuery(PageQuery):
    type: str | None = None


class StreamQuery(PageQuery):
    refresh: bool = Field(default=False, description="Wait for a fresh discovery.")


def shown_type(type_: ConnectorType) -> ConnectorTypeShown:
    return ConnectorTypeShown.model_validate(
        {
            "type": type_.name,
            "title": type_.title,
            "roles": list(type_.roles),
            "config_schema": config_schema(type_),
            "read_modes": [str(mode) for mode in type_.read_modes],
            "write_modes": [{"mode": str(way.mode), "delivery": way.delivery} for way in type_.write_modes],
            "side_by_side": type_.side_by_side,
            "docs": type_.docs,
        }
    )


def shown(connector: Connector) -> ConnectorShown:
    return definition.shown(ConnectorShown, connector)


def shown_discovery(discovery: Discovery) -> DiscoveryShown:
    return DiscoveryShown(
        id=discovery.id,
        connector_id=discovery.connector_id,
        status=discovery.status,
        requested_at=discovery.requested_at,
        finished_at=discovery.finished_at,
    )
