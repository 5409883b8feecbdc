"""What other engines change without a word in expressions and keys: kept here as it is, or refused."""

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
