"""What a python step gave, held against the fields it was to give; a type may differ where no value changes by it."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.engine import Place
from dataaggregator.dataplane.steps.names import distinct
from dataaggregator.dataplane.steps.types import Column

CODE = "python-output-invalid"
_Kind = Callable[[pa.DataType], bool]
# Arrow's safe cast between these refuses every value it would change.
_SAFE: Sequence[tuple[Sequence[_Kind], Sequence[_Kind]]] = (
    ((pa.types.is_integer,), (pa.types.is_integer, pa.types.is_decimal, pa.types.is_float64)),
    ((pa.types.is_decimal,), (pa.types.is_decimal,)),
    ((pa.types.is_float32,), (pa.types.is_float64,)),
    ((pa.types.is_timestamp,), (pa.types.is_timestamp,)),
    ((pa.types.is_date,), (pa.types.is_date,)),
    ((pa.types.is_time,), (pa.types.is_time,)),
    *(
        ((text, large, view), (text, large, view))
        for text, large, view in (
            (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
            (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
        )
    ),
)


def promised(given: pa.Schema, came_in: pa.Schema, place: Place) -> pa.Schema:
    """The fields a step will give, from those it gives for no rows; a field that came in may keep any type."""
    distinct(given.names, place)
    for field in given:
        kept = field.name in came_in.names and came_in.field(field.name).type == field.type
        if pa.types.is_null(field.type) and not kept:
            message = (
                f"the field {field.name} has no type when there are no rows; say the step's fields with `schema`, "
                "or give the column its type"
            )
            raise place.invalid("definition-invalid", message)
        if not kept and not types.taken(field.type):
            message = f"the field {field.name} has the type {field.type}, which no destination can take; cast it"
            raise place.invalid("type-unsupported", message)
    return pa.schema([pa.field(field.name, field.type) for field in given])


def check_names(given: pa.Schema, schema: pa.Schema, place: Place) -> None:
    """Raise Invalid unless these are the promised fields, in whatever order."""
    distinct(given.names, place)
    missing = [name for name in schema.names if name not in given.names]
    more = [name for name in given.names if name not in schema.names]
    if missing or more:
        told = [f"{words} {', '.join(names)}" for words, names in (("without", missing), ("with", more)) if names]
        message = f"transform gave rows {' and '.join(told)}; its fields are {', '.join(schema.names)}"
        raise place.invalid(CODE, message)


def fitted(batch: pa.RecordBatch, schema: pa.Schema, place: Place) -> pa.RecordBatch:
    """The rows in the promised fields and types; raises Invalid naming the field that has another one."""
    check_names(batch.schema, schema, place)
    return pa.RecordBatch.from_arrays([_column(batch, field, place) for field in schema], schema=schema)


def _column(batch: pa.RecordBatch, field: "pa.Field[pa.DataType]", place: Place) -> Column:
    column = batch.column(field.name)
    if column.type == field.type:
        return column
    wrong = f"the field {field.name} was to be {field.type} and is {column.type}"
    if not _safe(column.type, field.type):
        raise place.invalid(CODE, f"{wrong}; cast it, or say the step's fields with `schema`")
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        said = f": {error}"[:300] if place.rows_shown else ""
        raise place.invalid(CODE, f"{wrong}, and not all of its values fit{said}") from error


def _safe(given: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_null(given):
        return True
    if pa.types.is_timestamp(given) and pa.types.is_timestamp(wanted) and (given.tz is None) != (wanted.tz is None):
        return False
    return any(any(k(given) for k in given_) and any(k(wanted) for k in wanted_) for given_, wanted_ in _SAFE)
