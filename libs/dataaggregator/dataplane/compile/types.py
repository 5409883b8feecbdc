"""The words for types a cast may name, and the engine's type for each."""

import re

_WORDS = {
    "boolean": "BOOLEAN", "bool": "BOOLEAN",
    "tinyint": "TINYINT", "smallint": "SMALLINT", "int2": "SMALLINT", "int16": "SMALLINT",
    "integer": "INTEGER", "int": "INTEGER", "int4": "INTEGER", "int32": "INTEGER",
    "bigint": "BIGINT", "int8": "BIGINT", "int64": "BIGINT", "long": "BIGINT",
    "utinyint": "UTINYINT", "usmallint": "USMALLINT", "uinteger": "UINTEGER", "ubigint": "UBIGINT",
    "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    "real": "FLOAT", "float4": "FLOAT", "float32": "FLOAT",
    "double": "DOUBLE", "double precision": "DOUBLE", "float": "DOUBLE", "float8": "DOUBLE", "float64": "DOUBLE",
    "number": "DOUBLE",
    "text": "VARCHAR", "string": "VARCHAR", "varchar": "VARCHAR",
    "date": "DATE", "time": "TIME",
    "timestamp": "TIMESTAMP", "datetime": "TIMESTAMP", "timestamp without time zone": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE", "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID", "json": "JSON", "jsonb": "JSON",
    "bytea": "BLOB", "blob": "BLOB", "binary": "BLOB", "bytes": "BLOB",
}  # fmt: skip
_DECIMAL = re.compile(r"(?:decimal|numeric)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
KNOWN = "boolean, integer, bigint, decimal(p,s), double, text, date, time, timestamp, timestamptz, uuid, json, binary"


def engine_type(word: str) -> str:
    """The engine's type for a user's word; raises ValueError with what would be right."""
    plain = " ".join(word.lower().split())
    if plain in _WORDS:
        return _WORDS[plain]
    if plain in ("decimal", "numeric"):
        raise ValueError(f"{plain} needs its digits, such as {plain}(18,2)")
    if not (match := _DECIMAL.fullmatch(plain)):
        raise ValueError(f"unknown type {word!r}; the types are {KNOWN}")
    precision, scale = int(match.group(1)), int(match.group(2) or 0)
    if not 1 <= precision <= 38 or scale > precision:
        raise ValueError("a decimal has 1 to 38 digits, and at most as many behind the point")
    return f"DECIMAL({precision},{scale})"
