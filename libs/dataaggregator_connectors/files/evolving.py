"""How rows differ from what was loaded into a stream of files before: by name, and by type where files have types."""

import base64
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.differences import Difference
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator_connectors.files.config import Format

TYPED: tuple[Format, ...] = ("parquet", "arrow")
MOST_DIGITS = 76


def differences(load: LoadRequest, held: pa.Schema, schema: pa.Schema, form: Format) -> Iterator[Difference]:
    """Files take any rows, so that each of them is possible; what it means for readers is what a policy is about."""
    for field in schema:
        if field.name not in held.names:
            told = SchemaDifference(kind="added", field=field.name, after=str(field.type))
            yield Difference(told, f"{load.stream} has no such column", True, code="column-missing")
        elif form in TYPED and wider(before := held.field(field.name).type, field.type) != before:
            told = SchemaDifference(kind="changed", field=field.name, before=str(before), after=str(field.type))
            yield Difference(told, f"{field.type} does not fit {before}", True, held=before)
    for field in held:
        if field.name not in schema.names:
            told = SchemaDifference(kind="removed", field=field.name, before=str(field.type))
            replaced = load.write is WriteKind.REPLACE
            yield Difference(told, "the rows do not have it", replaced, harmless=True, code="column-missing")


def joined(held: pa.Schema, schema: pa.Schema) -> pa.Schema:
    """The columns of both, each in the type that holds both, or else in the newer one."""
    fields = [field for field in held if field.name not in schema.names]
    for field in schema:
        before = held.field(field.name).type if field.name in held.names else field.type
        fields.append(pa.field(field.name, wider(before, field.type) or field.type))
    return pa.schema(fields)


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds all values of both without change; None where there is none."""
    is_: Any = pa.types
    if one == other or is_.is_null(other):
        return one
    if is_.is_null(one):
        return other
    for same in (is_.is_signed_integer, is_.is_unsigned_integer, is_.is_floating):
        if same(one) and same(other):
            return one if one.bit_width >= other.bit_width else other
    if is_.is_decimal(one) and is_.is_decimal(other):
        return _wider_decimal(one, other)
    for whole, real in ((one, other), (other, one)):
        if is_.is_integer(whole) and is_.is_float64(real) and whole.bit_width <= 32:
            return real
    return None


def _wider_decimal(one: Any, other: Any) -> pa.DataType | None:
    scale = max(one.scale, other.scale)
    digits = max(one.precision - one.scale, other.precision - other.scale) + scale
    if digits > MOST_DIGITS:
        return None
    return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)


def written(schema: pa.Schema) -> str:
    """A schema as the manifest keeps it."""
    plain: Any = schema.remove_metadata()
    return base64.b64encode(plain.serialize().to_pybytes()).decode()


def read(held: str) -> pa.Schema:
    message: Any = pa.py_buffer(base64.b64decode(held))
    schema: pa.Schema = pa.ipc.read_schema(message)
    return schema
