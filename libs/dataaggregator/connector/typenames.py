"""The names of field types people write (`schema: {field: type}`) and the Arrow types they mean."""

import re
from collections.abc import Mapping

import pyarrow as pa

from dataaggregator.errors import FieldError, Invalid

NAMES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double": pa.float64(),
    "text": pa.string(),
    "bytes": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "uuid": pa.uuid(),
    "json": pa.json_(pa.string()),
}
OTHER_NAMES = {
    "bool": "boolean", "int8": "bigint", "int64": "bigint", "long": "bigint", "int": "integer", "int4": "integer",
    "int32": "integer", "int2": "smallint", "int16": "smallint", "float": "double", "float4": "real",
    "float8": "double", "float32": "real", "float64": "double", "double precision": "double", "number": "double",
    "string": "text", "varchar": "text", "str": "text", "blob": "bytes", "binary": "bytes", "bytea": "bytes",
    "datetime": "timestamp", "timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp",
    "jsonb": "json",
}  # fmt: skip
DECIMAL = re.compile(r"(?:decimal|numeric)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")


def parse_type(name: str) -> pa.DataType:
    """The Arrow type of a name such as `bigint`, `decimal(12,2)` or `text[]`; Invalid "type-unknown"."""
    plain = " ".join(name.strip().lower().split())
    if plain.endswith("[]"):
        return pa.list_(parse_type(plain[:-2]))
    if found := DECIMAL.fullmatch(plain):
        precision, scale = int(found[1]), int(found[2] or 0)
        if 1 <= precision <= 76 and scale <= precision:
            return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    known = NAMES.get(OTHER_NAMES.get(plain, plain))
    if known is None:
        raise Invalid("type-unknown", f"{name!r} is not a type; there are {', '.join(NAMES)}, decimal(p,s) and type[].")
    return known


def parse_schema(given: Mapping[str, str]) -> dict[str, pa.DataType]:
    """Each field's type; Invalid names every field whose type is not known."""
    found: dict[str, pa.DataType] = {}
    errors: list[FieldError] = []
    for field, name in given.items():
        try:
            found[field] = parse_type(name)
        except Invalid as error:
            errors.append(FieldError(f"schema.{field}", error.detail, error.code))
    if errors:
        raise Invalid("type-unknown", "The schema given names unknown types.", errors=errors)
    return found
