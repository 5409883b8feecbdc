"""Lists: the page, its query, and the opaque cursor."""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.errors import FieldError, Invalid

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page of a list; ``next_cursor`` is null on the last one."""

    items: list[T]
    next_cursor: str | None = None


class Query(BaseModel):
    """Base of every query model: what is not declared is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """The query of a list; a route that sorts narrows ``sort`` to a Literal of its fields."""

    limit: Annotated[int, Field(ge=1, le=500, description="How many items at most.")] = 50
    cursor: Annotated[str | None, Field(max_length=1000, description="next_cursor of the page before.")] = None
    sort: Annotated[
        str | None, Field(pattern=r"^-?[a-z_]{1,40}$", description="A field; with - before it, downwards.")
    ] = None


def encode_cursor(*values: str | int | UUID | datetime | None) -> str:
    """The opaque cursor for the key of the last item of a page."""
    # default: the driver's UUID is a subclass, which orjson does not take by itself.
    return base64.urlsafe_b64encode(orjson.dumps(values, default=str)).rstrip(b"=").decode()


def decode_cursor(cursor: str, *types: type[Any]) -> tuple[Any, ...]:
    """The values back, each of its type (str, int, UUID, datetime); raises Invalid for what is not our cursor."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        values = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(values, list) or len(values) != len(types):
            raise ValueError("another number of values")
        return tuple(_READ[kind](value) for kind, value in zip(types, values, strict=True))
    except (ValueError, TypeError, KeyError, binascii.Error):
        detail = "The cursor is not one that this list gave out."
        raise Invalid(
            "cursor-invalid", detail, errors=[FieldError("cursor", "should be the next_cursor of a page", "cursor")]
        ) from None


def page_of(rows: Sequence[T], limit: int, cursor_of: Callable[[T], str]) -> Page[T]:
    """A page from at most ``limit + 1`` rows: the one too many only says that there are more."""
    more = len(rows) > limit
    items = list(rows[:limit])
    return Page[T].model_construct(items=items, next_cursor=cursor_of(items[-1]) if more else None)


def _text(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError("not a text")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ValueError("not a whole number")
    return value


def _time(value: object) -> datetime:
    time = datetime.fromisoformat(_text(value))
    if time.tzinfo is None:
        raise ValueError("not an aware time")
    return time


_READ: dict[type, Callable[[object], Any]] = {
    str: _text,
    int: _whole,
    UUID: lambda value: UUID(_text(value)),
    datetime: _time,
}
