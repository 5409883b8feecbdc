"""JSON documents in and out with every value kept: numbers beyond a double, bytes, NaN, moments."""

import base64
import datetime
import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import orjson
import pyarrow as pa

from dataaggregator.errors import Invalid

Array: TypeAlias = "pa.Array[Any]"
EXACT_CHARS = 16
"""Every number that is no longer is kept by the quick parser."""
# To look for so many digits in a row takes next to nothing.
DIGITS = bytes(ord("0") if chr(sign) in "0123456789." else ord(" ") for sign in range(256))
MANY = b"0" * EXACT_CHARS
EXPONENTS = (b"e", b"E")
LONGEST_WHOLE = len(str(2**63))
STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
HALF = re.compile(rb"\\u[dD][89a-fA-F]")
TOO_DEEP = "it is nested too deeply to be read"
BEFORE_COLONS = (b'":', b" :", b"\n:", b"\r:", b"\t:")
SPACED = re.compile(rb'"[ \n\r\t]+:')


class Doubled(dict[str, Any]):
    """An object in which a key stands twice: the last value of each, as every reader takes it, and all `pairs`."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


class DoubledKeyError(ValueError):
    """A document that says two things at once; it, with `Doubled` objects, is in `document`."""

    def __init__(self, document: Any) -> None:
        super().__init__(twice(document))
        self.document = document


def loads(text: bytes) -> Any:
    """The document; a number that is neither a 64-bit integer nor a double's shortest text is a Decimal.

    ValueError where it is not JSON, DoubledKeyError where an object has a key twice: parsers keep the last one.
    """
    try:
        document = DECODER.decode(text.decode()) if _has_rounded(text) else orjson.loads(text)
        see_no_half_character(text, document)
        see_no_key_doubled(text, document)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    return document


def _has_rounded(text: bytes) -> bool:
    """Whether the quick parser would give another number than one that stands there; rather too often than not."""
    runs = text.translate(DIGITS)
    fractions, end = [], 0
    while (at := runs.find(MANY, end)) >= 0:
        end = runs.find(b" ", at)
        end = len(runs) if end < 0 else end
        # Behind a quote stands a text.
        if text[at - 1 : at] == b'"':
            continue
        digits = text[at:end]
        if text[end : end + 1] in EXPONENTS:
            return True
        if b"." in digits:
            fractions.append(digits)
        elif not _is_whole_kept(digits):
            return True
    return not _are_written_again(fractions) and not all(map(_is_fraction_kept, fractions))


def _is_whole_kept(digits: bytes) -> bool:
    """Whatever sign is before them."""
    return len(digits) < LONGEST_WHOLE or (len(digits) == LONGEST_WHOLE and int(digits) < 2**63)


def _are_written_again(fractions: Sequence[bytes]) -> bool:
    """By the quick parser just as they were read: as mostly all are, which costs a tenth of asking of each."""
    text = b"[" + b",".join(fractions) + b"]"
    try:
        return orjson.dumps(orjson.loads(text)) == text
    except ValueError:  # within a text
        return False


def _is_fraction_kept(digits: bytes) -> bool:
    try:
        return isinstance(_fraction(digits.decode()), float)
    except ValueError:  # within a text
        return False


def see_no_half_character(text: bytes, document: Any) -> None:
    """Raises ValueError, as the quick parser does: no column and no file holds half of a surrogate pair."""
    if HALF.search(text) is None:
        return
    try:
        json.dumps(document, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text has half of a surrogate pair") from error


def see_no_key_doubled(text: bytes, document: Any) -> None:
    """Raises DoubledKeyError. Each key has its colon: where there are not more of them, none was lost."""
    if b"\\" not in text and not _has_spaced_keys(text) and _as_many_when_written_again(text, document):
        return
    keys = _keys(document)
    if keys == sum(map(text.count, BEFORE_COLONS)) or keys == STRINGS.sub(b"", text).count(b":"):
        return
    raise DoubledKeyError(json.loads(text, parse_float=_fraction, parse_int=_whole, object_pairs_hook=_object))


def _has_spaced_keys(text: bytes) -> bool:
    # To look for one byte takes next to nothing.
    spaced = any(pair[:1] in text and pair in text for pair in BEFORE_COLONS[1:])
    return spaced and SPACED.search(text) is not None


def _as_many_when_written_again(text: bytes, document: Any) -> bool:
    """A colon follows the quote behind a key, and the one before a text that begins with a colon: what was lost took
    some of them along."""
    try:
        return orjson.dumps(document).count(BEFORE_COLONS[0]) == text.count(BEFORE_COLONS[0])
    except TypeError:  # a Decimal
        return False


def _keys(document: Any) -> int:
    found, todo = 0, [document]
    while todo:
        one = todo.pop()
        if type(one) is dict:
            found += len(one)
            todo += [value for value in one.values() if type(value) is dict or type(value) is list]
        elif type(one) is list:
            todo += [value for value in one if type(value) is dict or type(value) is list]
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else Doubled(pairs)


def twice(document: Any, but: object = None) -> str | None:
    """What to say of the first object in it that has a key twice; `but` is a part that is not looked at."""
    if isinstance(document, Doubled):
        keys = [key for key, _ in document.pairs]
        return f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object"
    if document is but or not isinstance(document, dict | list):
        return None
    values = document.values() if isinstance(document, dict) else document
    return next(filter(None, (twice(value, but) for value in values)), None)


def as_written(value: Any) -> str:
    """JSON text with everything that stood in it, doubled keys too."""
    match value:
        case dict():
            pairs = value.pairs if isinstance(value, Doubled) else value.items()
            return "{" + ", ".join(f"{dumps(key)}: {as_written(one)}" for key, one in pairs) + "}"
        case list():
            return "[" + ", ".join(map(as_written, value)) + "]"
        case _:
            return dumps(value)


def _fraction(text: str) -> float | Decimal:
    double = float(text)
    if repr(double) == text or (len(text) <= EXACT_CHARS and math.isfinite(double)):
        return double
    exact = Decimal(text)
    return double if exact == Decimal(repr(double)) else exact


def _whole(text: str) -> int | Decimal:
    if len(text) < EXACT_CHARS:
        return int(text)
    exact = Decimal(text)
    return int(exact) if -(2**63) <= exact < 2**64 else exact


DECODER = json.JSONDecoder(parse_float=_fraction, parse_int=_whole)


def dumps(value: Any) -> str:
    """A value of a document as JSON text again, its numbers as they are."""
    return orjson.dumps(value, default=_number).decode()


def _number(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value).encode())
    raise TypeError(f"{type(value).__name__} is not JSON")


def records(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as documents for `orjson.dumps(…, default=plain_text)`; Invalid names a column JSON cannot hold."""
    columns = [_for_json(field, column) for field, column in zip(rows.schema, rows.columns, strict=True)]
    return [dict(zip(rows.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _for_json(field: "pa.Field[Any]", column: Array) -> list[Any]:
    values = column_values(field, column)
    if isinstance(field.type, pa.JsonType):
        return [None if value is None else orjson.Fragment(value) for value in values]
    return [finite(value) for value in values] if has_floats(field.type) else values


def column_values(field: "pa.Field[Any]", column: Array) -> list[Any]:
    """The column's values; Invalid "value-does-not-fit" for those Python has no type for."""
    try:
        return column.to_pylist()
    except (OverflowError, ValueError) as error:
        raise Invalid("value-does-not-fit", f"Column {field.name} ({field.type}): {error}") from error


def has_floats(type_: pa.DataType) -> bool:
    if pa.types.is_nested(type_):
        return any(has_floats(type_.field(at).type) for at in range(type_.num_fields))
    return pa.types.is_floating(type_)


def finite(value: Any) -> Any:
    """The value with NaN and infinity as text wherever they stand: JSON has no word for them, and null is another."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case list() | tuple():
            return [finite(item) for item in value]
        case dict():
            return {name: finite(item) for name, item in value.items()}
        case _:
            return value


def plain_text(value: Any) -> str:
    """One value as text that reads back as the same value."""
    match value:
        case bool():
            return "true" if value else "false"
        case bytes():
            return base64.b64encode(value).decode()
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case Decimal() | UUID() | int() | float():
            return str(value)
        case list() | dict():
            return orjson.dumps(finite(value), default=plain_text).decode()
        case _:
            return str(value)
