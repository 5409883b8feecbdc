"""Arrow columns in PostgreSQL's input form: what a COPY in text form is made of."""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.connector.documents import finite, plain_text

Array: TypeAlias = "pa.Array[Any]"
JULIAN_DAY_OF_1970 = 2_440_588
DAY_MICROSECONDS = 86_400_000_000


def written(array: Array, *, as_json: bool = False) -> Array:
    """Each value as text PostgreSQL reads back as that value; ValueError or OverflowError where there is none."""
    plain: Any = (
        array.storage if isinstance(array, pa.ExtensionArray) and not isinstance(array, pa.UuidArray) else array
    )
    if as_json and pa.types.is_nested(plain.type):
        return _by_value(plain, _json)
    if pa.types.is_list(plain.type):
        return _arrays(plain)
    if pa.types.is_date32(plain.type):
        return _days(plain.cast(pa.int32()))
    if pa.types.is_timestamp(plain.type):
        return _moments(plain.cast(pa.int64()), "+00" if plain.type.tz else "")
    if _unlike_arrow(plain.type):
        return _by_value(plain, _literal)
    texts: Array = pc.cast(plain, pa.string())
    return texts


def _json(value: Any) -> str:
    return json.dumps(finite(value), default=plain_text, ensure_ascii=False, allow_nan=False)


def _by_value(array: Array, say: Callable[[Any], str]) -> Array:
    return pa.array([None if value is None else say(value) for value in array.to_pylist()], pa.string())


def _unlike_arrow(type_: pa.DataType) -> bool:
    """Types without a text form in Arrow that PostgreSQL reads."""
    return (
        pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_fixed_size_binary(type_)
        or isinstance(type_, pa.BaseExtensionType)
        or pa.types.is_interval(type_)
        or pa.types.is_duration(type_)
    )


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, pa.MonthDayNano):
        if value.nanoseconds % 1000:
            raise ValueError(f"{value.nanoseconds} nanoseconds are no whole microseconds")
        return f"{value.months} mons {value.days} days {value.nanoseconds // 1000} microseconds"
    return str(value)


def _days(days: Any) -> Array:
    """Julian days: the one form of a date that is the same before Christ and after the year 9999."""
    julian: Any = pc.add(days.cast(pa.int64()), JULIAN_DAY_OF_1970)
    texts: Array = pc.binary_join_element_wise("J", julian.cast(pa.string()), "")
    return texts


def _moments(micros: Any, zone: str) -> Array:
    days: Any = pc.divide(micros, DAY_MICROSECONDS)
    rest: Any = pc.subtract(micros, pc.multiply(days, DAY_MICROSECONDS))
    early: Any = pc.less(rest, pa.scalar(0))
    days = pc.if_else(early, pc.subtract(days, 1), days)
    rest = pc.if_else(early, pc.add(rest, DAY_MICROSECONDS), rest)
    times: Any = rest.cast(pa.time64("us")).cast(pa.string())
    texts: Array = pc.binary_join_element_wise(_days(days), pc.binary_join_element_wise(times, zone, ""), " ")
    return texts


def _arrays(lists: Any) -> Array:
    """Each list as an array literal, every element in quotes."""
    items: Any = written(lists.flatten())
    for raw, escaped in (("\\", "\\\\"), ('"', '\\"')):
        items = pc.replace_substring(items, raw, escaped)
    quoted = pc.coalesce(pc.binary_join_element_wise('"', items, '"', ""), "NULL")
    lengths: Any = pc.fill_null(pc.list_value_length(lists), 0)
    ends: Any = pc.cumulative_sum(lengths.cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    joined: Any = pc.binary_join(pa.ListArray.from_arrays(offsets, quoted), ",")
    texts: Array = pc.if_else(lists.is_valid(), pc.binary_join_element_wise("{", joined, "}", ""), None)
    return texts
