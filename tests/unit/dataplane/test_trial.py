"""The sample of a trial: its rows get the types they show, or what is wrong with them is said."""

from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.dataplane.trial import Output, sample_table
from dataaggregator.errors import Invalid


@pytest.mark.parametrize(
    "values", [[2**63], [{"n": -(2**63) - 1}], [[2**64]], [1, "a"]], ids=["large", "deep", "listed", "mixed"]
)
def test_values_that_no_column_can_hold_are_refused(values: list[Any]) -> None:
    with pytest.raises(Invalid) as caught:
        sample_table("input", [{"f": value} for value in values])
    assert caught.value.code == "sample-invalid"


@pytest.mark.parametrize("rows", [[], [{}], [{}, {}]], ids=["none", "empty", "several"])
def test_rows_without_a_field_are_refused(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(Invalid, match="has no field"):
        sample_table("input", rows)


async def test_of_the_rows_a_step_makes_of_a_few_no_more_are_held_than_are_shown() -> None:
    output = Output(3)
    for start in (0, 2, 4, 1_000):
        await output.write(pa.record_batch({"n": range(start, start + 2)}))
    assert output.rows == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert output.count == 8
