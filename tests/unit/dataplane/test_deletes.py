"""Delete marks: what a boolean, a time and a word of an op column say, and that nothing is guessed."""

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.dataplane.deletes import DELETE_MARK, marks, with_mark_field, with_marks
from dataaggregator.errors import Invalid

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def rows(said: Any, type_: pa.DataType | None = None) -> pa.RecordBatch:
    return pa.record_batch({"id": list(range(len(said))), "said": pa.array(said, type_), "last": ["x"] * len(said)})


@pytest.mark.parametrize(
    ("said", "type_", "gone"),
    [
        ([True, False, None], None, [True, False, False]),
        ([NOW, None], pa.timestamp("us", tz="UTC"), [True, False]),
        ([date(2026, 1, 1), None], pa.date32(), [True, False]),
        (["D", " delete ", "deleted", "DELETE"], None, [True] * 4),
        (["I", "u", "r", "c", "insert", "Update", "upsert", "", None], None, [False] * 9),
        (["D", "I", None], pa.dictionary(pa.int8(), pa.string()), [True, False, False]),
        (["D", "I"], pa.large_string(), [True, False]),
        (["D", "I"], pa.string_view(), [True, False]),
        ([None, None], pa.string(), [False, False]),
        ([], pa.bool_(), []),
    ],
)
def test_what_says_that_a_row_is_to_go(said: Any, type_: pa.DataType | None, gone: list[bool]) -> None:
    given = rows(said, type_)
    assert marks(given, "said").to_pylist() == gone
    taken = with_marks(given, "said")
    assert taken.schema == with_mark_field(given.schema, "said")
    assert taken.schema.names == ["id", "last", DELETE_MARK]
    assert taken.column(DELETE_MARK).to_pylist() == gone


@pytest.mark.parametrize("word", ["X", "truncate", "t", "0", "no"])
def test_a_word_that_nobody_knows_is_refused_and_counted(word: str) -> None:
    with pytest.raises(Invalid) as caught:
        marks(rows(["I", word, "D"]), "said")
    assert (caught.value.code, "In 1 of 3 rows said has" in caught.value.detail) == ("delete-mark-unknown", True)


@pytest.mark.parametrize("type_", [pa.int64(), pa.binary(), pa.list_(pa.string()), pa.decimal128(5, 0)])
def test_a_field_that_cannot_say_it_is_refused(type_: pa.DataType) -> None:
    with pytest.raises(Invalid) as caught:
        with_mark_field(pa.schema([pa.field("said", type_)]), "said")
    assert caught.value.code == "delete-mark-invalid"


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        with_mark_field(pa.schema([pa.field("id", pa.int64())]), "said")
    assert (caught.value.code, "no field said" in caught.value.detail) == ("delete-mark-invalid", True)
