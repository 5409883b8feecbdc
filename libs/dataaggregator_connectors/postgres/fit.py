"""Which Arrow types fit which PostgreSQL columns, and what a new column is declared as."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.types as is_

from dataaggregator.errors import FieldError, Invalid
from dataaggregator_connectors.postgres.types import (
    ARROW_TYPE,
    NATIVE_TYPE,
    SIMPLE,
    Column,
    numeric_scale,
    numeric_type,
)

Field: TypeAlias = "pa.Field[Any]"
INTEGERS = ("int2", "int4", "int8")
TEXTS = ("text", "varchar", "bpchar", "name")
LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)
# An array carries the oid of its element type, and the server takes no other than the column's. The encoder knows
# these; it writes text for varchar and timestamp for timestamptz.
ENCODED = frozenset(
    {"bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "bytea", "date", "time", "timestamp"}
)
# What PostgreSQL rounds or cuts as it reads it from text, where the column says how long a value may be.
SHORTENED = frozenset({"numeric", "time", "timetz", "timestamp", "timestamptz", "interval", "varchar", "bpchar"})

DECLARED: tuple[tuple[Any, str], ...] = (
    (is_.is_boolean, "boolean"),
    (is_.is_int8, "smallint"), (is_.is_int16, "smallint"), (is_.is_uint8, "smallint"),
    (is_.is_int32, "integer"), (is_.is_uint16, "integer"),
    (is_.is_int64, "bigint"), (is_.is_uint32, "bigint"), (is_.is_uint64, "numeric(20,0)"),
    (is_.is_float16, "real"), (is_.is_float32, "real"), (is_.is_float64, "double precision"),
    (is_.is_date, "date"), (is_.is_time, "time"),
    (is_.is_interval, "interval"), (is_.is_duration, "interval"),
    (is_.is_struct, "jsonb"), (is_.is_map, "jsonb"), (is_.is_null, "text"),
)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """How a column's values travel: cast to `type` first unless `keep`, and by which COPY format."""

    column: str
    declared: str
    typname: str
    type: pa.DataType
    as_text: bool = False
    keep: bool = False
    typmod: int = -1


def fits(field: Field, column: Column) -> Fit:
    """How this field goes into this column without change; Invalid "column-incompatible" names it if it cannot."""
    given = _plain(field.type)
    if not column.portable:
        raise _unfit(
            field,
            column,
            f": a {column.base} means something in its own database only; make the column {_instead(column)}",
        )
    fit = _text_only(given, column) or _native(given, column) or _same_numeric(field, column)
    if fit is None:
        raise _unfit(field, column, "")
    if fit.keep and _shortens(column) and given != pa.uuid() and origin_type(field) != column.base:
        raise _unfit(field, column, ": it would be rounded or cut without a word")
    return fit


def _instead(column: Column) -> str:
    return "numeric" if "money" in (column.typname, column.element) else "text"


def _plain(given: pa.DataType) -> pa.DataType:
    """The type without its dictionary; a document is text."""
    if isinstance(given, pa.DictionaryType):
        given = given.value_type
    return pa.string() if isinstance(given, pa.JsonType) else given


def _unfit(field: Field, column: Column, why: str) -> Invalid:
    return Invalid(
        "column-incompatible",
        f"Column {column.name} is {column.declared} at the destination and {field.type} in the rows{why}.",
        errors=[FieldError(column.name, f"{field.type} does not fit {column.declared}{why}", "column-incompatible")],
    )


def _shortens(column: Column) -> bool:
    return column.builtin and column.typmod >= 0 and (column.element or column.typname) in SHORTENED


def _made(column: Column, type_: pa.DataType, *, as_text: bool = False, keep: bool = False) -> Fit:
    return Fit(column.name, column.declared, column.typname, type_, as_text, keep, column.typmod)


def _text_only(given: pa.DataType, column: Column) -> Fit | None:
    """Columns whose values PostgreSQL reads from text, because Arrow or the encoder has no such type."""
    stays = _made(column, given, as_text=True, keep=True)
    if not column.builtin or (column.element is None and column.typname not in SIMPLE and column.typname != "numeric"):
        interval = column.typname == "interval" and (is_.is_interval(given) or is_.is_duration(given))
        return stays if _is_text(given) or interval else None
    if column.typname == "oid":
        return _made(column, pa.int64(), as_text=True) if is_.is_integer(given) else None
    if column.typname == "uuid" and _is_text(given):
        return stays
    if column.typname in TEXTS and given == pa.uuid():
        return stays
    if column.typname in ("json", "jsonb") and is_.is_nested(given):
        return stays
    if column.element is not None and _is_text(given):
        return stays
    return None


def _same_numeric(field: Field, column: Column) -> Fit | None:
    """A numeric that Arrow has no words for, read as text and not changed since, into one of the very same kind."""
    if column.typname == "numeric" and column.element is None and origin_type(field) == column.base:
        return _made(column, field.type, as_text=True, keep=True)
    return None


def _native(given: pa.DataType, column: Column) -> Fit | None:
    if not column.builtin:
        # A type of the user's own may have the name of one of these.
        return None
    if column.element is not None:
        return _list(given, column)
    wanted = _wanted(given, column.typname, column.typmod)
    if wanted is None:
        return None
    return _made(column, wanted, as_text=isinstance(wanted, pa.Decimal256Type))


def _list(given: pa.DataType, column: Column) -> Fit | None:
    if not isinstance(given, LISTS) or is_.is_nested(item := _plain(given.value_type)):
        return None
    wanted = _wanted(item, column.element or "", column.typmod)
    if wanted is None:
        return None
    by_text = column.element not in ENCODED or isinstance(wanted, pa.Decimal256Type)
    return _made(column, pa.list_(wanted), as_text=by_text)


def _wanted(given: pa.DataType, typname: str, typmod: int) -> pa.DataType | None:
    """The Arrow type to cast to, value by value checked, or None where no cast keeps all values."""
    if typname == "numeric":
        return _wanted_numeric(given, typmod)
    simple = SIMPLE.get(typname)
    if simple is None or given == simple or is_.is_null(given):
        return simple
    if _is_text(given):
        return pa.string() if typname in (*TEXTS, "json", "jsonb") else None
    allowed = {
        "int2": is_.is_integer(given), "int4": is_.is_integer(given), "int8": is_.is_integer(given),
        "float4": is_.is_float16(given) or is_.is_int8(given) or is_.is_int16(given),
        "float8": is_.is_floating(given) or is_.is_integer(given),
        "bytea": is_.is_large_binary(given) or is_.is_fixed_size_binary(given) or is_.is_binary(given),
        "date": is_.is_date(given),
        "time": is_.is_time(given),
        "timestamp": is_.is_date(given) or (isinstance(given, pa.TimestampType) and given.tz is None),
        "timestamptz": isinstance(given, pa.TimestampType) and given.tz is not None,
        "uuid": isinstance(given, pa.FixedSizeBinaryType) and given.byte_width == 16,
    }  # fmt: skip
    if is_.is_decimal(given) and typname in INTEGERS:
        return simple if given.scale == 0 else None
    return simple if allowed.get(typname) else None


def _wanted_numeric(given: pa.DataType, typmod: int) -> pa.DataType | None:
    if not (is_.is_integer(given) or is_.is_decimal(given) or is_.is_null(given)):
        return None
    if typmod >= 4:
        # What Arrow cannot say (more than 76 digits, a scale below 0) takes only what PostgreSQL would not round.
        return numeric_type(typmod) or (given if _scale(given) <= numeric_scale(typmod) else None)
    return given if is_.is_decimal(given) else pa.decimal128(20, 0)


def _scale(given: pa.DataType) -> int:
    return int(given.scale) if isinstance(given, pa.Decimal128Type | pa.Decimal256Type) else 0


def _is_text(given: pa.DataType) -> bool:
    return is_.is_string(given) or is_.is_large_string(given) or given == pa.string_view()


def declared_type(field: Field) -> str:
    """What a new column for this field is declared as, when nothing is known of its origin."""
    given = field.type.value_type if isinstance(field.type, pa.DictionaryType) else field.type
    if isinstance(given, pa.JsonType):
        return "jsonb"
    if isinstance(given, pa.UuidType):
        return "uuid"
    if is_.is_decimal(given):
        return f"numeric({given.precision},{given.scale})"
    if isinstance(given, pa.TimestampType):
        return "timestamp with time zone" if given.tz is not None else "timestamp"
    if isinstance(given, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        inner = given.value_type
        return "jsonb" if is_.is_nested(inner) else declared_type(pa.field("item", inner)) + "[]"
    if _is_text(given):
        return "text"
    if is_.is_binary(given) or is_.is_large_binary(given) or is_.is_fixed_size_binary(given):
        return "bytea"
    for test, name in DECLARED:
        if test(given):
            return name
    raise Invalid("column-incompatible", f"Column {field.name}: PostgreSQL has no type for {field.type}.")


def origin_type(field: Field) -> str | None:
    """The PostgreSQL type the field was read from, if it is still of the Arrow type it had then."""
    metadata = field.metadata or {}
    if metadata.get(ARROW_TYPE) != str(field.type).encode():
        return None
    return metadata[NATIVE_TYPE].decode() if NATIVE_TYPE in metadata else None
