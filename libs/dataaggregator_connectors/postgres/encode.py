"""Arrow rows as the bytes of a COPY: in binary form where the encoder knows every type, in text form else."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import pgpq
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import encoders
from pgpq.schema import Jsonb, Text

from dataaggregator.errors import Invalid
from dataaggregator_connectors.postgres.fit import Fit, fits
from dataaggregator_connectors.postgres.types import Column

Array: TypeAlias = "pa.Array[Any]"
TIMES = ("time", "timestamp", "timestamptz")
MICROSECOND_DIGITS = 6
REFUSED = (pa.ArrowInvalid, pa.ArrowNotImplementedError)


class Encoder(Protocol):
    """`format` is the COPY format; `head` and `tail` frame what `batch` answers for each batch."""

    format: Literal["binary", "text"]

    def head(self) -> bytes: ...

    def batch(self, rows: pa.RecordBatch) -> bytes: ...

    def tail(self) -> bytes: ...


def encoder_for(schema: pa.Schema, columns: Sequence[Column]) -> Encoder:
    """The encoder of rows of this schema into these columns, position by position."""
    wanted = [fits(field, column) for field, column in zip(schema, columns, strict=True)]
    if all(not fit.as_text for fit in wanted):
        try:
            return BinaryEncoder(schema, wanted)
        except (TypeError, ValueError, NotImplementedError, RuntimeError):
            # The library refuses some nested types only here; the text road takes everything.
            return TextEncoder(schema, wanted)
    return TextEncoder(schema, wanted)


class BinaryEncoder:
    format: Literal["binary", "text"] = "binary"

    def __init__(self, schema: pa.Schema, wanted: Sequence[Fit]) -> None:
        self._wanted = wanted
        self._schema = pa.schema(
            [pa.field(field.name, _stored(fit.type)) for field, fit in zip(schema, wanted, strict=True)]
        )
        builders = {field.name: _builder(field, fit) for field, fit in zip(self._schema, wanted, strict=True)}
        self._encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(self._schema, builders)

    def head(self) -> bytes:
        return bytes(self._encoder.write_header())

    def batch(self, rows: pa.RecordBatch) -> bytes:
        arrays = [cast(array, fit) for array, fit in zip(rows.columns, self._wanted, strict=True)]
        return bytes(self._encoder.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema)))

    def tail(self) -> bytes:
        return bytes(self._encoder.finish())


def _builder(field: "pa.Field[Any]", fit: Fit) -> Any:
    if fit.typname == "jsonb":
        return encoders.StringEncoderBuilder.new_with_output(field, Jsonb())
    if pa.types.is_string(field.type):
        return encoders.StringEncoderBuilder.new_with_output(field, Text())
    return pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)


class TextEncoder:
    format: Literal["binary", "text"] = "text"

    def __init__(self, schema: pa.Schema, wanted: Sequence[Fit]) -> None:
        self._names, self._wanted = schema.names, wanted

    def head(self) -> bytes:
        return b""

    def batch(self, rows: pa.RecordBatch) -> bytes:
        if not rows.num_rows:
            return b""
        columns: list[Any] = [_texts(array, fit) for array, fit in zip(rows.columns, self._wanted, strict=True)]
        lines: Any = pc.binary_join_element_wise(*columns, "\t", null_handling="replace", null_replacement="\\N")
        return ("\n".join(lines.to_pylist()) + "\n").encode()

    def tail(self) -> bytes:
        return b""


def cast(array: Array, fit: Fit) -> Array:
    """The values as the column takes them; Invalid "value-does-not-fit" names the column."""
    plain = array.storage if isinstance(array, pa.ExtensionArray) else array
    target = _stored(fit.type)
    try:
        if pa.types.is_integer(plain.type) and isinstance(target, pa.Decimal128Type | pa.Decimal256Type):
            plain = pc.cast(plain, pa.decimal128(20, 0))
        made: Any = plain if plain.type == target else pc.cast(plain, target)
    except REFUSED as error:
        raise Invalid("value-does-not-fit", f"Column {fit.column} ({fit.declared}): {error}") from error
    if fit.typmod >= 0 and (said := _rounded(made.flatten() if pa.types.is_list(target) else made, fit)):
        raise Invalid("value-does-not-fit", f"Column {fit.column} ({fit.declared}): {said}")
    fitted: Array = made
    return fitted


def _rounded(values: Any, fit: Fit) -> str | None:
    """What PostgreSQL would take, and change without a word: it rounds seconds, and cuts blanks off the end."""
    kind = fit.typname.removeprefix("_")
    if kind in TIMES and fit.typmod < MICROSECOND_DIGITS:
        step, micros = 10 ** (MICROSECOND_DIGITS - fit.typmod), values.cast(pa.int64())
        whole: Any = pc.multiply(pc.divide(micros, step), step)
        if not pc.all(pc.equal(micros, whole)).as_py():
            return "a value has more digits of a second than the column keeps"
    if kind == "varchar":
        longest = pc.max(pc.utf8_length(values)).as_py()
        if longest is not None and longest > fit.typmod - 4:
            return f"a value has {longest} characters"
    return None


def _stored(type_: pa.DataType) -> pa.DataType:
    return type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_


def _texts(array: Array, fit: Fit) -> Array:
    values = array if fit.keep or isinstance(array, pa.UuidArray) else cast(array, fit)
    texts = _plain_texts(values, as_json=fit.typname in ("json", "jsonb"))
    for raw, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        texts = pc.replace_substring(texts, raw, escaped)
    return texts


def _plain_texts(array: Array, *, as_json: bool) -> Array:
    plain: Any = (
        array.storage if isinstance(array, pa.ExtensionArray) and not isinstance(array, pa.UuidArray) else array
    )
    if _by_value(plain.type):
        say: Callable[[Any], str] = _as_json if as_json else literal
        return pa.array([None if value is None else say(value) for value in plain.to_pylist()], pa.string())
    texts: Array = pc.cast(plain, pa.string())
    return texts


def _by_value(type_: pa.DataType) -> bool:
    """Types without a text form in Arrow that PostgreSQL reads."""
    return (
        pa.types.is_nested(type_)
        or pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_fixed_size_binary(type_)
        or isinstance(type_, pa.BaseExtensionType)
        or pa.types.is_interval(type_)
        or pa.types.is_duration(type_)
    )


def _as_json(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False, allow_nan=False)


def literal(value: Any) -> str:
    """One value in PostgreSQL's input form; a list as an array."""
    if isinstance(value, list):
        return "{" + ",".join("NULL" if item is None else _item(item) for item in value) + "}"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return _as_json(value)
    if isinstance(value, pa.MonthDayNano):
        return f"{value.months} mons {value.days} days {value.nanoseconds / 1000:f} microseconds"
    return str(value)


def _item(value: Any) -> str:
    text = literal(value)
    return text if isinstance(value, list) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
