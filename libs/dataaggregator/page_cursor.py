"""The opaque cursor of a list: where the next page begins."""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from dataaggregator.errors import FieldError, Invalid


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
    except (ValueError, TypeError, KeyError, OverflowError, binascii.Error):
        detail = "The cursor is not one that this list gave out."
        raise Invalid(
            "cursor-invalid", detail, errors=[FieldError("cursor", "should be the next_cursor of a page", "cursor")]
        ) from None


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
    return time.astimezone(UTC)


_READ: dict[type, Callable[[object], Any]] = {
    str: _text,
    int: _whole,
    UUID: lambda value: UUID(_text(value)),
    datetime: _time,
}
