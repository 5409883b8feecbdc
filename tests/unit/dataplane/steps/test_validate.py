"""validate: every kind of check, every way to fail."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.errors import Invalid


def _rule(check: Any, on_fail: str = "reject") -> list[dict[str, Any]]:
    return [{"validate": [{"rule": "r", "check": check, "on_fail": on_fail}]}]


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ("v > 1", [2, 3], [1, 0, None]),
        ({"not_null": "v"}, [0], [None]),
        ({"in": {"field": "v", "values": [1, 2]}}, [1, 2, None], [3]),
        ({"in": {"field": "v", "values": ["a"]}}, ["a"], ["b"]),
        ({"range": {"field": "v", "min": 1, "max": 3}}, [1, 2, 3, None], [0, 4]),
        ({"range": {"field": "v", "min": "2026-01-01"}}, [dt.date(2026, 1, 1)], [dt.date(2025, 12, 31)]),
        ({"range": {"field": "v", "max": 1.5}}, [1, 1], [2]),
        ({"regex": {"field": "v", "pattern": "[A-Z]{2}"}}, ["CH", None], ["CHE", "ch", ""]),
        ({"unique": "v"}, [1, 2, None, None], []),
    ],
)
def test_what_passes_passes_and_the_rest_is_rejected(transform: Any, check: Any, good: Any, bad: Any) -> None:
    out = transform(_rule(check), pa.table({"v": [*bad, *good]}))
    assert out.table.column("v").to_pylist() == good
    assert out.counts[0].rejected.get("r", 0) == len(bad)


def test_unique_keeps_the_first_across_batches(transform: Any) -> None:
    rows = [{"k": k, "n": n} for n, k in enumerate([1, 2, 1, 3, 2, 1])]
    out = transform(_rule({"unique": "k"}), rows, batch_rows=2)
    assert [row["n"] for row in out.values] == [0, 1, 3]
    assert out.counts[0].rejected == {"r": 3}


def test_unique_does_not_count_rows_an_earlier_rule_rejected(transform: Any) -> None:
    step = {"validate": [{"rule": "good", "check": "ok"}, {"rule": "u", "check": {"unique": ["k"]}}]}
    out = transform([step], [{"k": 1, "ok": False}, {"k": 1, "ok": True}, {"k": 1, "ok": True}])
    assert out.counts[0].rejected == {"good": 1, "u": 1}
    assert out.values == [{"k": 1, "ok": True}]


def test_a_row_is_rejected_once_by_its_first_rule(transform: Any) -> None:
    step = {"validate": [{"rule": "one", "check": "v > 1"}, {"rule": "two", "check": {"not_null": "v"}}]}
    out = transform([step], [{"v": None}, {"v": 2}])
    assert out.counts[0].rejected == {"one": 1}


def test_warn_counts_and_lets_pass(transform: Any) -> None:
    out = transform(_rule("v > 1", "warn"), [{"v": 1}, {"v": 2}])
    assert len(out.values) == 2
    assert out.counts[0].warned == {"r": 1}
    assert out.refused == []


def test_fail_ends_it_and_names_the_rule(transform: Any) -> None:
    with pytest.raises(Invalid, match="the rule r") as caught:
        transform(_rule("v > 1", "fail"), [{"v": 1}])
    assert caught.value.code == "validation-failed"


@pytest.mark.parametrize(
    "check", ["nothing > 1", {"not_null": "nothing"}, {"in": {"field": "v", "values": ["x"]}}, "v + 1"]
)
def test_a_check_that_cannot_work_is_told_before_any_row(transform: Any, check: Any) -> None:
    with pytest.raises(Invalid) as caught:
        transform(_rule(check), pa.table({"v": pa.array([], pa.int64())}))
    assert caught.value.errors[0].field.startswith("steps[0].validate")
