"""What other engines change without a word in expressions and keys: kept here as it is, or refused."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.errors import Invalid


@pytest.mark.parametrize(
    ("value", "kind", "expression"), [(2**62, pa.int64(), "v * v"), (0, pa.uint8(), "v - 1"), (127, pa.int8(), "v + v")]
)
def test_whole_numbers_do_not_wrap_round(transform: Any, value: int, kind: pa.DataType, expression: str) -> None:
    with pytest.raises(Invalid, match="overflow in") as caught:
        transform([{"derive": {"x": expression}}], pa.table({"v": pa.array([value], kind)}))
    assert caught.value.code == "expression-failed"


def test_a_product_of_decimals_is_exact_or_refused(transform: Any) -> None:
    def squared(text: str, scale: int) -> Any:
        values = pa.array([Decimal(text)], pa.decimal128(2 * scale - 2, scale))
        return transform([{"derive": {"x": "v * v"}}], pa.table({"v": values})).values[0]["x"]

    assert squared("1.0000000001", 10) == Decimal("1.00000000020000000001")
    with pytest.raises(Invalid, match="Needed scale 40") as caught:
        squared("1.00000000000000000001", 20)
    assert caught.value.code == "definition-invalid"


def test_a_sum_of_decimals_beyond_their_digits_is_refused(transform: Any) -> None:
    most = pa.array([Decimal("9" * 36 + ".99")] * 2, pa.decimal128(38, 2))
    with pytest.raises(Invalid) as caught:
        transform([{"aggregate": {"by": [], "measures": {"x": "sum(v)"}}}], pa.table({"v": most}))
    assert caught.value.code == "expression-failed"


def test_a_text_is_not_compared_with_a_number(transform: Any) -> None:
    """By their letters 10 comes before 9."""
    with pytest.raises(Invalid, match="explicit cast") as caught:
        transform([{"filter": "v > 9"}], [{"v": "10"}])
    assert caught.value.code == "definition-invalid"


def test_keys_of_two_number_types_meet_by_every_digit(transform: Any) -> None:
    """As doubles, all of these would be one key."""
    there = pa.array([Decimal("9007199254740993.5"), Decimal("9007199254740993.0")], pa.decimal128(38, 1))
    others = pa.table({"v": there, "w": [1, 2]})
    out = transform(
        [{"join": {"with": "other", "on": ["v"], "how": "left"}}], [{"v": 2**53}, {"v": 2**53 + 1}], other=others
    )
    assert sorted((row["v"], row["w"]) for row in out.values if row["w"] is not None) == [(2**53 + 1, 2)]
    assert [row["v"] for row in out.values if row["w"] is None] == [2**53]


def test_texts_with_a_space_behind_are_other_keys(transform: Any) -> None:
    flow, other = [{"v": "a "}, {"v": "A"}, {"v": "a"}], [{"v": "a", "w": 1}]
    out = transform([{"join": {"with": "other", "on": ["v"], "how": "inner"}}], flow, other=other)
    assert out.values == [{"v": "a", "w": 1}]


def test_a_text_does_not_end_at_the_character_0(transform: Any) -> None:
    out = transform([{"derive": {"x": "v || 'b'", "n": "length(v)"}}], [{"v": "a\0c"}])
    assert out.values == [{"v": "a\0c", "x": "a\0cb", "n": 3}]


def test_a_local_time_that_the_clocks_skipped_is_told_by_its_way_back(transform: Any) -> None:
    """Zurich went from 2:00 to 3:00 on 2024-03-31; SQL takes 2:30 for 3:30."""
    local = [{"v": dt.datetime.fromisoformat(f"2024-03-{day}T02:30")} for day in (30, 31)]
    there = "timezone('Europe/Zurich', v)"
    rule = {"rule": "of-the-zone", "check": f"timezone('Europe/Zurich', {there}) = v"}
    out = transform([{"validate": [rule]}, {"derive": {"at": there}}], local)
    assert [row["at"] for row in out.values] == [dt.datetime(2024, 3, 30, 1, 30, tzinfo=dt.UTC)]
    assert out.counts[0].rejected == {"of-the-zone": 1}
