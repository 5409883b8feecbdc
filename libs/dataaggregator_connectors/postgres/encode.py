"""Arrow rows as the bytes of a COPY: in binary form where the encoder knows every type, in text form else."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import pgpq
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import encoders
from pgpq.schema import Jsonb, Text

from dataaggregator.errors import Invalid
from dataaggregator_connectors.postgres.exactness import changed
from dataaggregator_connectors.postgres.fit import LISTS, Fit, fits
from dataaggregator_connectors.postgres.literals import written
from dataaggregator_connectors.postgres.types import Column

Array: TypeAlias = "pa.Array[Any]"
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
        fitted: Array = plain if plain.type == target else pc.cast(_whole_as_decimal(plain, target), target)
    except REFUSED as error:
        raise _does_not_fit(fit, error) from error
    if said := changed(fitted, fit):
        raise _does_not_fit(fit, said)
    return fitted


def probe(array: Array, fit: Fit, *, as_text: bool) -> None:
    """Raises Invalid "value-does-not-fit" as writing these values would."""
    if as_text:
        _texts(array, fit)
    else:
        cast(array, fit)


def _does_not_fit(fit: Fit, said: object) -> Invalid:
    return Invalid("value-does-not-fit", f"Column {fit.column} ({fit.declared}): {said}")


def _whole_as_decimal(array: Array, target: pa.DataType) -> Array:
    """Whole numbers on their way to decimals: straight there Arrow asks for room for the longest there could be."""
    given, wanted, listed = array.type, target, False
    if isinstance(given, LISTS) and isinstance(wanted, pa.ListType):
        given, wanted, listed = given.value_type, wanted.value_type, True
    if not (pa.types.is_integer(given) and pa.types.is_decimal(wanted)):
        return array
    whole = pa.decimal128(20, 0)
    made: Any = pc.cast(array, pa.list_(whole) if listed else whole)
    decimals: Array = made
    return decimals


def _stored(type_: pa.DataType) -> pa.DataType:
    return type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_


def _texts(array: Array, fit: Fit) -> Array:
    values = array if fit.keep else cast(array, fit)
    if fit.type == pa.uuid() and not fit.keep:
        values = pa.ExtensionArray.from_storage(pa.uuid(), values)
    try:
        texts = written(values, as_json=fit.typname in ("json", "jsonb"))
    except (*REFUSED, ValueError, OverflowError) as error:
        raise _does_not_fit(fit, error) from error
    if pc.any(pc.match_substring(texts, "\0")).as_py():
        raise _does_not_fit(fit, "a text has the character 0, which PostgreSQL does not hold")
    for raw, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        texts = pc.replace_substring(texts, raw, escaped)
    return texts
