"""Cursor values as people write them: whether one is of the cursor's type, and which of two comes first."""

import datetime
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.typenames import parse_type
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Invalid

# What is neither our word for a type nor another name of it.
_WORDS = (
    (re.compile(r"timestamp\[\w+\]"), "timestamp"),
    (re.compile(r"timestamp\[\w+, tz=.+\]"), "timestamptz"),
    (re.compile(r"date\d+\[\w+\]"), "date"),
    (re.compile(r"time(\d+\[\w+\]| without time zone)"), "time"),
    (re.compile(r"decimal\d+\((\d+), (\d+)\)"), r"decimal(\1,\2)"),
)
_SIZE = re.compile(r"\s*\(\s*(\d+)\s*\)")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_FRACTION = re.compile(r"\.([0-9]+)")
Place = int | float | Decimal | None
"""Where a value stands among those of its type; None where only the source knows their order."""


def wrong(type_: str, value: str) -> str | None:
    """What is wrong with a value for a cursor of this type, in the source's own words; None: nothing."""
    try:
        _place(type_, value)
    except (ValueError, InvalidOperation, pa.ArrowInvalid):
        zone = ", with its zone" if isinstance(kind := _kind(type_), pa.TimestampType) and kind.tz else ""
        return f"should be a value of type {type_}{zone}, {value!r} is none"
    return None


def forward(before: Cursor, after: Cursor | None) -> bool:
    """Whether a read that goes on from `after` meets no row again that one up to `before` has met.

    False as well where that cannot be told: the order of texts is the source's own.
    """
    if after is None or (before.field, before.type) != (after.field, after.type):
        return False
    if before.value == after.value:
        return True
    first, second = _place(before.type, before.value), _place(after.type, after.value)
    return first is not None and second is not None and first <= second


def _kind(type_: str) -> pa.DataType | None:
    """The Arrow type; None for numbers without bounds, text for whatever is not known."""
    plain = type_.strip().lower()
    for words, name in _WORDS:
        if words.fullmatch(plain):
            plain = words.sub(name, plain)
    if plain in ("numeric", "decimal"):
        return None
    try:
        return parse_type(plain if plain.startswith(("decimal", "numeric")) else _SIZE.sub("", plain))
    except Invalid:
        return pa.string()


def _place(type_: str, value: str) -> Place:
    """Raises for what is no value of the type, and for what the source would round or cut to make it one."""
    kind, size = _kind(type_), _SIZE.search(type_)
    if kind is None or pa.types.is_decimal(kind):
        return _decimal(value, kind)
    if kind == pa.uuid():
        return UUID(value).int
    if pa.types.is_temporal(kind):
        fraction = _FRACTION.search(value)
        if fraction and len(fraction[1]) > (int(size[1]) if size else 6):
            raise ValueError(value)
        return _time(value) if pa.types.is_time(kind) else _read(value, kind)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if "x" in value.lower():
            raise ValueError(value)
        return _finite(_read(value, kind))
    if size and len(value) > int(size[1]):
        raise ValueError(value)
    return None


def _decimal(value: str, kind: pa.DataType | None) -> Decimal:
    """Within precision and scale: what the source would round is none of its values."""
    if not _NUMBER.fullmatch(value):
        raise ValueError(value)
    number = Decimal(value)
    if isinstance(kind, pa.Decimal128Type | pa.Decimal256Type):
        _, _, exponent = number.as_tuple()
        if -int(exponent) > kind.scale or number.adjusted() >= kind.precision - kind.scale:
            raise ValueError(value)
    return number


def _time(value: str) -> int:
    time = datetime.time.fromisoformat(value)
    if time.tzinfo is not None:
        raise ValueError(value)
    return ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000_000 + time.microsecond


def _read(value: str, kind: pa.DataType) -> Any:
    """As Arrow reads it: a number, or days and microseconds since 1970."""
    read: Any = pa.scalar(value).cast(kind)
    return read.value if pa.types.is_temporal(kind) else read.as_py()


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(number)
    return number
