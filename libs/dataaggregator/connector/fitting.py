"""Making values fit a type: all at once where they do, and each one that does not found and said."""

import base64
import binascii
import datetime
import re
import uuid
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from dataaggregator.connector.documents import dumps

Array: TypeAlias = "pa.Array[Any]"
NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
"""As documents write what JSON has no word for."""
UUID_TEXT = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
UUID_BYTES = 16
NO_UUID = str(uuid.UUID(int=0))
LOST_DIGITS = re.compile(r"[.,][0-9]{6}0*[1-9]")
UNFIT = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, ValueError, TypeError, OverflowError)


def fit_texts(texts: Array, wanted: pa.DataType) -> tuple[Array, dict[int, str]]:
    """Texts as the wished type: the array (null where one does not fit) and, by place, why it does not."""
    return _fit(texts, wanted, _from_texts)


def fit_values(values: Sequence[Any], wanted: pa.DataType, *, from_texts: bool = True) -> tuple[Array, dict[int, str]]:
    """JSON values as the wished type, by the same rule; an object or a list only fits json and lists."""
    if isinstance(wanted, pa.JsonType):
        texts = [None if value is None else dumps(value) for value in values]
        return pa.ExtensionArray.from_storage(wanted, pa.array(texts, pa.string())), {}
    if not from_texts and not is_.is_string(wanted):
        return _fit(values, wanted, _from_numbers)
    return _fit(values, wanted, _from_values)


def _fit(
    values: Any, wanted: pa.DataType, convert: Callable[[Any, pa.DataType], Array]
) -> tuple[Array, dict[int, str]]:
    reasons: dict[int, str] = {}
    pieces = list(_pieces(values, 0, wanted, convert, reasons))
    return (pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)), reasons


def _pieces(
    values: Any, start: int, wanted: pa.DataType, convert: Callable[[Any, pa.DataType], Array], reasons: dict[int, str]
) -> list[Array]:
    """Halve what does not fit until the values that do not stand alone: quick when they are few."""
    try:
        return [convert(values, wanted)]
    except UNFIT as error:
        size = len(values)
        if size == 1:
            reasons[start] = _reason(values[0], wanted, error)
            return [_nulls(1, wanted)]
    middle = size // 2
    left = _pieces(values[:middle], start, wanted, convert, reasons)
    return left + _pieces(values[middle:], start + middle, wanted, convert, reasons)


def _reason(value: Any, wanted: pa.DataType, error: Exception) -> str:
    plain = value.as_py() if isinstance(value, pa.Scalar) else value
    shown = repr(plain.decode(errors="backslashreplace") if isinstance(plain, bytes) else plain)
    said = f"{shown[:200]} is not {_called(wanted)}"
    return f"{said}: {error}" if is_.is_decimal(wanted) else said


def _called(type_: pa.DataType) -> str:
    return "valid text" if is_.is_string(type_) else f"of type {type_}"


def _from_texts(given: Array, wanted: pa.DataType) -> Array:
    texts = given if is_.is_string(given.type) else _cast(given, pa.string())
    if isinstance(wanted, pa.UuidType):
        return _uuids(texts, wanted)
    if isinstance(wanted, pa.JsonType):
        for text in texts.to_pylist():
            orjson.loads(text) if text is not None else None
        return pa.ExtensionArray.from_storage(wanted, texts)
    if is_.is_time(wanted):
        return pa.array([None if text is None else _time(text) for text in texts.to_pylist()], wanted)
    if is_.is_list(wanted):
        return _from_values([None if text is None else orjson.loads(text) for text in texts.to_pylist()], wanted)
    if is_.is_binary(wanted):
        return pa.array([None if text is None else _bytes(text) for text in texts.to_pylist()], wanted)
    made = _cast(texts, wanted)
    if is_.is_floating(wanted) and pc.any(pc.is_inf(made)).as_py():
        _check_infinite(texts.filter(pc.is_inf(made)))
    return made


def _time(text: str) -> datetime.time:
    """Python would leave out an offset, and digits behind the sixth, without a word."""
    time = datetime.time.fromisoformat(text)
    if time.tzinfo is not None or LOST_DIGITS.search(text):
        raise ValueError("a time has no offset and at most six digits of a second")
    return time


def _bytes(text: str) -> bytes:
    """Text that comes of bytes is base64; any other would be taken for bytes that nobody wrote."""
    return base64.b64decode(text, validate=True)


def _check_infinite(texts: Array) -> None:
    """Numbers beyond a double's reach are parsed as infinity."""
    if any("inf" not in str(text).lower() for text in texts.to_pylist()):
        raise ValueError("too large")


def _from_values(values: Sequence[Any], wanted: pa.DataType) -> Array:
    if is_.is_list(wanted):
        return _lists(values, wanted, _from_values)
    if is_.is_floating(wanted):
        values = [NOT_FINITE.get(value, value) if isinstance(value, str) else value for value in values]
    natural = pa.array(values)
    if natural.type == wanted or is_.is_null(natural.type):
        return _nulls(len(values), wanted) if is_.is_null(natural.type) else natural
    if is_.is_string(natural.type):
        return _from_texts(natural, wanted)
    if is_.is_decimal(wanted) and is_.is_floating(natural.type):
        # The shortest text of a double is what stood in the document.
        return _cast(_cast(natural, pa.string()), wanted)
    if is_.is_decimal(wanted) and is_.is_decimal(natural.type):
        return _cast(natural, wanted)
    if is_.is_decimal(wanted) and is_.is_integer(natural.type):
        return _cast(_cast(natural, pa.string()), wanted)
    if (is_.is_integer(natural.type) or is_.is_floating(natural.type)) and _is_number(wanted):
        return _cast(natural, wanted)
    raise TypeError(f"{natural.type} is not {wanted}")


def _from_numbers(values: Sequence[Any], wanted: pa.DataType) -> Array:
    if is_.is_list(wanted):
        return _lists(values, wanted, _from_numbers)
    if any(isinstance(value, str) for value in values) and not is_.is_string(wanted):
        raise TypeError("a text")
    return _from_values(values, wanted)


def _lists(values: Sequence[Any], wanted: Any, convert: Callable[[Any, pa.DataType], Array]) -> Array:
    """Each item by the rule for values outside: pyarrow cuts 1.5 to 1 in a list of integers without a word."""
    if any(value is not None and not isinstance(value, list) for value in values):
        raise TypeError("not a list")
    items = convert([item for value in values for item in value or ()], wanted.value_type)
    ends = accumulate((len(value or ()) for value in values), initial=0)
    mask = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items, type=wanted, mask=mask)


def _uuids(texts: Array, wanted: pa.UuidType) -> Array:
    """As they are mostly written all are read at once, a fifth of the time; the forms that Python knows besides too."""
    compute: Any = pc
    filled = compute.fill_null(texts, NO_UUID)
    if not compute.all(compute.match_substring_regex(filled, UUID_TEXT)).as_py():
        return _each(texts.to_pylist(), wanted)
    digits = compute.replace_substring(filled, "-", "").buffers()[2]
    stored = pa.py_buffer(binascii.unhexlify(memoryview(digits)[: 2 * UUID_BYTES * len(texts)]))
    whether = compute.is_valid(texts).buffers()[1]
    made: Any = pa.Array.from_buffers(pa.binary(UUID_BYTES), len(texts), [whether, stored])
    return pa.ExtensionArray.from_storage(wanted, made)


def _each(values: Sequence[Any], wanted: pa.DataType) -> Array:
    stored = [None if value is None else uuid.UUID(value).bytes for value in values]
    return pa.ExtensionArray.from_storage(wanted, pa.array(stored, pa.binary(UUID_BYTES)))  # type: ignore[arg-type]


def _cast(array: Any, wanted: pa.DataType) -> Array:
    made: Array = pc.cast(array, wanted)
    return made


def _nulls(size: int, wanted: pa.DataType) -> Array:
    nulls: Any = pa.nulls
    made: Array = nulls(size, wanted)
    return made


def _is_number(type_: pa.DataType) -> bool:
    return is_.is_integer(type_) or is_.is_floating(type_)
