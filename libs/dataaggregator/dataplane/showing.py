"""Rows and schemas as JSON for people to look at: exact, with nothing rounded on the way."""

import base64
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

PAGE_BYTES = 64 * 1024


def rows_as_json(rows: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    try:
        return [plain(row) for row in rows.to_pylist()]
    except (ValueError, OverflowError):
        columns = {name: [_exact(value) for value in rows.column(name)] for name in rows.schema.names}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def a_page(rows: Iterable[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The first of rows that are JSON already: so many at most, and together not too much to look at."""
    page: list[dict[str, Any]] = []
    room = PAGE_BYTES
    for row in itertools.islice(rows, most):
        room -= len(json.dumps(row))
        if room < 0:
            break
        page.append(row)
    return page


def plain(value: Any) -> Any:
    """Decimals, uuids and times as text, bytes as base64, numbers JSON has no word for as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | UUID() | timedelta():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(name): plain(one) for name, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
    return str(value)


def _exact(value: Any) -> Any:
    """An Arrow scalar as `plain` shows it, also times that are too fine or too far away for Python's own types."""
    try:
        return plain(value.as_py())
    except (ValueError, OverflowError):
        pass
    if isinstance(value, pa.StructScalar):
        return {name: _exact(one) for name, one in value.items()}
    if isinstance(value, pa.ListScalar):
        return [_exact(one) for one in value]
    return str(value.cast(pa.string()).as_py())


def schema_as_json(schema: pa.Schema) -> dict[str, Any]:
    """JSON Schema of a row; each field also says its Arrow type, which is the exact one."""
    return {
        "type": "object",
        "properties": {field.name: _field(field) for field in schema},
        "required": [field.name for field in schema if not field.nullable],
    }


def _field(field: "pa.Field[Any]") -> dict[str, Any]:
    described = _type(field.type)
    if field.nullable and "type" in described:
        described["type"] = [described["type"], "null"]
    return described | {"arrow_type": str(field.type)}


def _type(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    if pa.types.is_integer(kind):
        return {"type": "integer"}
    if pa.types.is_floating(kind):
        return {"type": "number"}
    if pa.types.is_date(kind):
        return {"type": "string", "format": "date"}
    if pa.types.is_timestamp(kind):
        return {"type": "string", "format": "date-time"}
    if pa.types.is_time(kind):
        return {"type": "string", "format": "time"}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return {"type": "array", "items": _type(kind.value_type)}
    if pa.types.is_struct(kind):
        return {"type": "object", "properties": {field.name: _field(field) for field in kind}}
    if str(kind) == "extension<arrow.uuid>":
        return {"type": "string", "format": "uuid"}
    if str(kind) == "extension<arrow.json>":
        return {}
    return {"type": "string"}
