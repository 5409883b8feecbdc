"""The sample of a trial: its rows get the types they show, or what is wrong with them is said."""

from typing import Any

import pytest

from dataaggregator.dataplane.trial import sample_table
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
