"""Contracts: the two bases of everything that crosses a wire, and the words they share."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

Channel = Literal["public", "internal"]


class Sent(BaseModel):
    """What a user sends: an unknown field is an error, named."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Told(BaseModel):
    """What a service tells: a reader ignores fields it does not know yet."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Message(Told):
    """The data of one kind of event. `event_type` is its name on the bus and never derived from the class name.

    `said_by` is the one service that says it ('' for any); `channel` says which exchange it goes to; an ephemeral
    message is published without outbox and may be lost. After one that `ends` it nothing is said of its subject: what
    counts its events may be forgotten.
    """

    event_type: ClassVar[str]
    said_by: ClassVar[str]
    channel: ClassVar[Channel] = "public"
    ephemeral: ClassVar[bool] = False
    ends: ClassVar[bool] = False


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time must carry its zone, such as 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("no such moment: it lies outside the years 1 to 9999 in UTC") from None


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def _not_an_id(value: str) -> str:
    if _UUID.fullmatch(value):
        raise ValueError("a name must not look like an id, because paths take either")
    return value


def _written(value: Any) -> Any:
    """A number of seconds is no time. A text is read here, for where a kind was chosen first JSON is read no more."""
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise PydanticCustomError("time", "write a time with its zone, such as 2026-01-31T12:00:00Z") from error


Time = Annotated[datetime, AfterValidator(_aware)]
"""A moment: aware, in UTC."""

Moment = Annotated[Time, BeforeValidator(_written)]
"""A moment that somebody writes down."""

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"

Name = Annotated[
    str,
    Field(min_length=1, max_length=100, pattern=NAME_PATTERN),
    AfterValidator(_not_an_id),
]
"""The name of a definition, a source or a transformation."""

FieldName = Annotated[str, Field(min_length=1, max_length=255)]
"""The name of a field of a row; any characters, as sources have them."""

Expression = Annotated[str, Field(min_length=1, max_length=100_000)]
"""SQL as a user writes it; compiled by `dataplane.compile`, not here."""


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


T = TypeVar("T")

Many = Annotated[tuple[T, ...], BeforeValidator(_listed)]
"""A list on the wire, kept as a tuple. A variant is picked from a list that is read already, and strict reading of what
is read already would take nothing but a tuple."""

Some = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_listed)]
"""The same with at least one; said inside, where the JSON schema sees it too."""
