"""How an http connector is configured."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from dataaggregator.connector.spec import Config
from dataaggregator.contracts.document_path import DocumentPath


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)


class NoAuth(Part):
    type: Literal["none"] = "none"


class BearerAuth(Part):
    type: Literal["bearer"]
    token: SecretStr = Field(description="Sent as Authorization: Bearer.")


class BasicAuth(Part):
    type: Literal["basic"]
    username: str = Field(description="User.")
    password: SecretStr = Field(description="Password.")


class ApiKeyAuth(Part):
    type: Literal["api_key"]
    name: str = Field("X-API-Key", description="Header or parameter that carries the key.")
    value: SecretStr = Field(description="The key.")
    place: Literal["header", "query"] = Field("header", alias="in", description="Where the key is sent.")


class ClientCredentialsAuth(Part):
    type: Literal["oauth2_client_credentials"]
    token_url: str = Field(description="Where a token is asked for.")
    client_id: str = Field(description="Client.")
    client_secret: SecretStr = Field(description="Secret of the client.")
    scope: str | None = Field(None, description="Scopes asked for, separated by spaces.")


Auth = Annotated[NoAuth | BearerAuth | BasicAuth | ApiKeyAuth | ClientCredentialsAuth, Field(discriminator="type")]


class NoPages(Part):
    type: Literal["none"] = "none"


class ByPage(Part):
    """The next page has the next number; an empty page is the last."""

    type: Literal["page"]
    param: str = Field("page", description="Parameter with the page's number.")
    start: int = Field(1, description="Number of the first page.")
    size_param: str | None = Field(None, description="Parameter with the records a page.")
    size: int = Field(100, ge=1, description="Records a page, sent as size_param.")


class ByOffset(Part):
    """The next page begins after the records received so far; an empty page is the last."""

    type: Literal["offset"]
    param: str = Field("offset", description="Parameter with the records to skip.")
    limit_param: str = Field("limit", description="Parameter with the records a page.")
    limit: int = Field(100, ge=1, description="Records a page.")


class ByCursor(Part):
    """The answer says where the next page begins; none said is the last."""

    type: Literal["cursor"]
    param: str = Field("cursor", description="Parameter with the cursor.")
    path: DocumentPath = Field("$.next_cursor", description="Where the answer has the next cursor.")


class ByLink(Part):
    """The Link header with rel="next" leads to the next page; none is the last."""

    type: Literal["link"]


Pagination = Annotated[NoPages | ByPage | ByOffset | ByCursor | ByLink, Field(discriminator="type")]


class Stream(Part):
    """One endpoint: as a source its pages are read, as a destination batches are posted to it."""

    path: str = Field(description="Path below base_url.")
    method: Literal["GET", "POST", "PUT", "PATCH"] | None = Field(
        None, description="Method; GET to read and POST to write when left out."
    )
    params: dict[str, str | int | float | bool] = Field(default_factory=dict, description="Query parameters.")
    records: DocumentPath = Field("$", description="Where the list of records is: $ or $.data.items.")
    pagination: Pagination = Field(default_factory=NoPages, description="How the next page is found.")
    primary_key: tuple[str, ...] = Field((), description="Fields that identify a record.")
    cursor_field: str | None = Field(None, description="Field an incremental read goes on from.")
    cursor_param: str | None = Field(None, description="Parameter that asks for records from a cursor on.")
    cursor_until_param: str | None = Field(
        None, description="Parameter that asks for records up to a cursor, for backfills."
    )
    batch_rows: int = Field(500, ge=1, le=100_000, description="Records in one POST.")


class HttpConfig(Config):
    """An HTTP API that speaks JSON."""

    base_url: str = Field(description="https://api.example.com/v1: what every stream's path is below.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Headers of every request.")
    auth: Auth = Field(default_factory=NoAuth, description="How to log in.")
    rate_limit: float | None = Field(None, gt=0, description="Most requests a second.")
    timeout_seconds: float = Field(60.0, gt=0, le=600, description="Longest wait for one answer, seconds.")
    streams: dict[str, Stream] = Field(default_factory=dict, description="The streams by name.")

    @field_validator("base_url")
    @classmethod
    def _web(cls, value: str) -> str:
        split = urlsplit(value)
        if split.scheme not in ("http", "https") or not split.hostname or split.username or split.query:
            raise ValueError("should be http(s)://host/path without user or query")
        return value.rstrip("/")
