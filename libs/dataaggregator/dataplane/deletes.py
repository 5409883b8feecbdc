"""Delete marks: which rows say that the row of their key is to go, by a boolean, a time, or a word of an op column."""

from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from dataaggregator.errors import Invalid

Marks: TypeAlias = "pa.BooleanArray"
DELETE_MARK = "_dataaggregator_delete"
"""The field, last, that the rows of a merge with `delete_when` have: true where the row of the key is to go."""
MARK_FIELD = pa.field(DELETE_MARK, pa.bool_(), nullable=False)
_GONE = ("d", "delete", "deleted")
_THERE = ("", "c", "create", "created", "i", "insert", "inserted", "r", "read", "u", "update", "updated", "upsert")


def check_mark(schema: pa.Schema, field: str) -> None:
    """Raises Invalid (`delete-mark-invalid`) where the rows have no such field, or one that cannot say it."""
    if field not in schema.names:
        raise Invalid("delete-mark-invalid", f"The rows have no field {field}, by which delete_when goes.")
    type_ = _plain(schema.field(field).type)
    if not (is_.is_boolean(type_) or is_.is_temporal(type_) or _is_text(type_)):
        raise Invalid(
            "delete-mark-invalid",
            f"delete_when goes by a boolean, a time or a word such as 'delete', and {field} is {type_}: "
            "derive a boolean from it in a step.",
        )


def marks(rows: pa.RecordBatch, field: str) -> Marks:
    """True where the row of the key is to go: a boolean says so itself, a time by being there, a word by what it means.

    No value is no mark. Raises Invalid (`delete-mark-unknown`) for a word that nobody knows: to guess would either keep
    a row that is gone or remove one that is not.
    """
    said: Any = rows.column(field)
    type_ = _plain(said.type)
    if is_.is_temporal(type_):
        return _boolean(pc.is_valid(said))
    if is_.is_boolean(type_):
        return _boolean(pc.fill_null(said, False))
    words: Any = pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(said, pa.large_string())))
    gone = pc.is_in(words, pa.array(_GONE, words.type))
    known = pc.or_(gone, pc.is_in(words, pa.array((*_THERE, None), words.type)))
    if not pc.all(known, min_count=0).as_py():
        strange = pc.sum(pc.invert(known)).as_py()
        detail = (
            f"In {strange} of {len(said)} rows {field} has a word that does not say whether theirs is to be deleted: "
            "derive a boolean from it in a step."
        )
        raise Invalid("delete-mark-unknown", detail)
    return _boolean(gone)


def with_marks(rows: pa.RecordBatch, field: str) -> pa.RecordBatch:
    """The rows as a destination takes them: the mark, `DELETE_MARK`, last and instead of the field."""
    left = rows.select([name for name in rows.schema.names if name != field])
    return left.append_column(MARK_FIELD, marks(rows, field))


def with_mark_field(schema: pa.Schema, field: str) -> pa.Schema:
    """That of `with_marks`."""
    check_mark(schema, field)
    return schema.remove(schema.get_field_index(field)).append(MARK_FIELD)


def count(marked: "pa.Array[Any]") -> int:
    return _boolean(marked).true_count


def _boolean(made: Any) -> Marks:
    assert isinstance(made, pa.BooleanArray)  # noqa: S101 (Arrow's functions give what they were given)
    return made


def _plain(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if isinstance(type_, pa.DictionaryType) else type_


def _is_text(type_: pa.DataType) -> bool:
    return is_.is_string(type_) or is_.is_large_string(type_) or type_ == pa.string_view()
