"""The counts of python steps: by number of row where they carry one, else at best what was expected."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataaggregator.errors import Invalid
from tests.integration.sandbox.pythons import PythonSteps, python

FLOW = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
# What comes out, as the numbers of rows: those that went in, others, and none.
SHUFFLED = """\
numbers = {numbers}
row_id = pa.array(numbers if len(rows) else [], pa.int64())
return pa.table({{'row_id': row_id, 'x': pa.array([0] * len(row_id), pa.int64())}})"""


@given(st.integers(0, 40), st.data())
@settings(max_examples=150, deadline=None)
def test_every_row_is_kept_filtered_doubled_or_invented(python_steps: PythonSteps, read: int, data: Any) -> None:
    known = st.integers(-3, read + 3) | st.none() | st.sampled_from([2**62, -(2**62)])
    numbers = data.draw(st.lists(known, max_size=60)) if read else []
    flow = pa.table({"id": pa.array(range(read), pa.int64())})
    batch_rows = data.draw(st.integers(1, 50))
    outcome = python_steps([python(SHUFFLED.format(numbers=numbers), row_ids=True)], flow, batch_rows=batch_rows)
    (counts,) = outcome.counts
    inside = [one for one in numbers if one is not None and 0 <= one < read]
    kept = len(set(inside))
    assert (counts.read, counts.written, counts.accounting) == (read, len(numbers), "proven")
    assert (counts.kept, counts.doubled, counts.invented) == (kept, len(inside) - kept, len(numbers) - len(inside))
    assert counts.filtered == {"transform": read - kept}
    assert outcome.schema.names == ["x"]


@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["one_to_one", "many_to_one", "one_to_many", "any"]))
@settings(max_examples=80, deadline=None)
def test_an_expectation_holds_or_the_step_fails(
    python_steps: PythonSteps, read: int, written: int, expect: str
) -> None:
    flow = pa.table({"id": pa.array(range(read), pa.int64())})
    step = python(
        f"return pa.table({{'x': pa.array([0] * {written} if len(rows) else [], pa.int64())}})", expect=expect
    )
    given_ = written if read else 0
    holds = {"one_to_one": given_ == read, "many_to_one": given_ <= read, "one_to_many": given_ >= read, "any": True}
    if holds[expect]:
        (counts,) = python_steps([step], flow).counts
        assert counts.accounting == ("unaccounted" if expect == "any" else "declared")
        assert (counts.read, counts.written, counts.flow) == (read, given_, read)
    else:
        with pytest.raises(Invalid, match=f"{expect} was expected") as caught:
            python_steps([step], flow)
        assert caught.value.code == "expectation-failed"


def test_rows_that_carry_their_numbers_go_through_what_tables_do(python_steps: PythonSteps) -> None:
    body = (
        "rows = rows.filter(pc.field('id') != 2).sort_by([('id', 'descending')])\n"
        "return pa.concat_tables([rows, rows.slice(0, 1), pa.table({'id': [9], 'name': ['new']})],"
        " promote_options='default')"
    )
    outcome = python_steps([python(body, row_ids=True, schema={"id": "bigint", "name": "text"})], FLOW)
    (counts,) = outcome.counts
    assert [row["id"] for row in outcome.values] == [3, 1, 3, 9]
    assert (counts.kept, counts.doubled, counts.invented, counts.filtered) == (2, 1, 1, {"transform": 1})


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return rows.drop_columns(['row_id'])", "without the field row_id"),
        ("return rows if not len(rows) else rows.drop_columns(['row_id'])", "without the field row_id"),
        ("return rows.set_column(2, 'row_id', rows['name'])", "row_id came back as string"),
        ("return rows.append_column('row_id', rows['row_id'])", "without the field row_id"),
        (
            "return rows.set_column(2, 'row_id', pa.array([2**64 - 1] * len(rows), pa.uint64()))",
            "a number that no row had",
        ),
    ],
)
def test_numbers_that_were_lost_are_missed(python_steps: PythonSteps, body: str, told: str) -> None:
    with pytest.raises(Invalid, match=told) as caught:
        python_steps([python(body, row_ids=True)], FLOW)
    assert caught.value.code == "python-output-invalid"
    assert caught.value.errors[0].field == "steps[0].row_ids" or "without rows" in caught.value.detail


def test_a_field_of_that_name_is_not_overwritten(python_steps: PythonSteps) -> None:
    with pytest.raises(Invalid, match="there is a field row_id already"):
        python_steps([python("return rows", row_ids=True)], FLOW.rename_columns(["row_id", "name"]))
    with pytest.raises(Invalid, match="leave it out here"):
        python_steps([python("return rows", row_ids=True, schema={"row_id": "bigint"})], FLOW)
    assert python_steps([python("return rows")], FLOW.rename_columns(["row_id", "name"])).schema.names[0] == "row_id"
