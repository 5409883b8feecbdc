"""Which Arrow types the engine takes and gives back unchanged, and how the others are kept or refused."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# One column of rows, an array or chunks of one. The stubs are generic over scalars where the classes are not.
Column = Any

# What the engine gives back just as it took it.
_SAME = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_decimal128,
    pa.types.is_date32,
    pa.types.is_string,
    pa.types.is_binary,
    pa.types.is_null,
)
# What it gives back in another Arrow type of the same values; `restore` brings back the first.
_EQUAL = (
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_decimal32,
    pa.types.is_decimal64,
    pa.types.is_date64,
    pa.types.is_time,
)
_EXTENSIONS = ("arrow.uuid", "arrow.json", "arrow.bool8")


def taken(kind: pa.DataType) -> bool:
    """Whether values of this type pass the engine without change."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name in _EXTENSIONS
    if pa.types.is_timestamp(kind):
        return kind.unit in ("s", "ms", "us") if kind.tz else True
    if pa.types.is_dictionary(kind):
        return taken(kind.value_type)
    if pa.types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        names = {field.name.casefold() for field in fields if "\0" not in field.name}
        # Its names end at a NUL, and know no upper and lower case: s.a would be s.A.
        return len(names) == len(fields) and all(taken(field.type) for field in fields)
    if pa.types.is_map(kind):
        return taken(kind.key_type) and taken(kind.item_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return taken(kind.value_type)
    return any(is_kind(kind) for is_kind in (*_SAME, *_EQUAL))


def takeable(schema: pa.Schema) -> list[str]:
    """The names of the fields the engine may see."""
    return [field.name for field in schema if taken(field.type)]


def cure(field: "pa.Field[Any]") -> str:
    """What to say where a field is needed that the engine would change."""
    return (
        f"the field {field.name} has the type {field.type}, which the engine cannot keep exactly; "
        "give it another type at the source, or drop it before this step"
    )


def restore(column: Column, wanted: pa.DataType) -> Column:
    """A column that passed the engine, in the type it had before."""
    if column.type == wanted:
        return column
    plain = plain_bool(column)
    if plain.type == wanted:
        return plain
    if pa.types.is_dictionary(wanted):
        encoded = pc.dictionary_encode(plain.cast(wanted.value_type))
        return encoded.cast(wanted)
    return plain.cast(wanted)


def plain_bool(column: Column) -> Column:
    """The engine gives truth values as bytes; here they are bits, as everywhere else."""
    if isinstance(column.type, pa.Bool8Type):
        storage = column.cast(pa.int8()) if isinstance(column, pa.ChunkedArray) else column.storage
        return storage.cast(pa.bool_())
    return column


def settled(kind: pa.DataType) -> pa.DataType:
    """The Arrow type of a computed column, from the engine's answer."""
    return pa.bool_() if isinstance(kind, pa.Bool8Type) else kind
