"""validate: every kind of check, every way to fail."""

import datetime as dt
import math
import re
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        ({"in": {"field": "v", "values": [2.0**53, 0.5]}}, [2**53, None], [2**53 + 1, 0, 1]),
        ({"range": {"field": "v", "max": 2.0**53}}, [2**53 - 1, 2**53, None], [2**53 + 1]),
        ({"range": {"field": "v", "min": 1.5, "max": "2.5"}}, [2], [1, 3]),
        ({"range": {"field": "v", "min": -1e300, "max": 1e300}}, [2**63 - 1, -(2**63)], []),
        ({"range": {"field": "v", "min": 1e300}}, [None], [2**63 - 1]),
        ({"range": {"field": "v", "min": 0.1, "max": "0.299"}}, [Decimal("0.10")], [Decimal("0.09"), Decimal("0.30")]),
        ({"in": {"field": "v", "values": [0.1]}}, pa.array([0.1], pa.float32()), pa.array([0.2], pa.float32())),
        ({"in": {"field": "v", "values": [True]}}, [True], [False]),
        ({"in": {"field": "v", "values": [1]}}, [None], []),
        ({"range": {"field": "v", "min": 1}}, [None], []),
        ({"range": {"field": "v", "min": 0}}, [1.5, math.inf, None], [math.nan, -math.inf]),
        ({"range": {"field": "v", "max": 0}}, [-math.inf], [math.nan]),
        ({"range": {"field": "v", "min": 0}}, pa.array([1], pa.float32()), pa.array([math.nan], pa.float32())),
        ({"regex": {"field": "v", "pattern": "[A-Z]{2}"}}, ["CH", None], ["CHE", "ch", ""]),
        ({"unique": "v"}, [1, 2, None, None], []),
    ],
)
def test_what_passes_passes_and_the_rest_is_rejected(transform: Any, check: Any, good: Any, bad: Any) -> None:
    column = pa.concat_arrays([bad, good]) if isinstance(good, pa.Array) else pa.array([*bad, *good])
    good = good.to_pylist() if isinstance(good, pa.Array) else good
    out = transform(_rule(check), pa.table({"v": column}))
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
    ("check", "column", "words"),
    [
        ("nothing > 1", [1], "nothing"),
        ({"not_null": "nothing"}, [1], "there is no field nothing"),
        ("v + 1", [1], "a condition is true or false"),
        ({"in": {"field": "v", "values": ["x"]}}, [1], "'x' is no number"),
        ({"in": {"field": "v", "values": ["nan"]}}, [1], "'nan' is no number"),
        ({"in": {"field": "v", "values": [True]}}, [1], "cannot be compared with True; write it as a number"),
        ({"in": {"field": "v", "values": [1]}}, ["1"], "cannot be compared with 1; write it as text"),
        ({"range": {"field": "v", "min": 1}}, ["1"], "cannot be compared with 1; write it as text"),
        ({"in": {"field": "v", "values": [1]}}, [True], "write it as true or false"),
        ({"range": {"field": "v", "min": "soon"}}, [dt.date(2026, 1, 1)], "soon"),
        ({"regex": {"field": "v", "pattern": "["}}, ["a"], "missing ]"),
    ],
)
def test_a_check_that_cannot_work_is_told_with_its_rule_before_any_row(
    transform: Any, check: Any, column: Any, words: str
) -> None:
    step = {"validate": [{"rule": "good", "check": {"not_null": "v"}}, {"rule": "r", "check": check}]}
    with pytest.raises(Invalid) as caught:
        transform([step], pa.table({"v": column}).slice(0, 0))
    (error,) = caught.value.errors
    assert error.field == "steps[0].validate[1].check"
    assert words in error.message


def test_an_expression_that_fails_on_a_row_is_told_with_its_rule(transform: Any) -> None:
    step = {"validate": [{"rule": "good", "check": "v <> ''"}, {"rule": "r", "check": "v::INTEGER > 0"}]}
    with pytest.raises(Invalid) as caught:
        transform([step], [{"v": "x"}])
    assert (caught.value.code, caught.value.errors[0].field) == ("expression-failed", "steps[0].validate[1].check")


BIG = [2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1]
WHOLE = st.one_of(st.none(), st.integers(-2, 3), st.sampled_from(BIG))
PARTS = st.one_of(st.none(), st.integers(-250, 250).map(lambda n: Decimal(n) / 100))
TEXT = st.one_of(st.none(), st.sampled_from(["", "a", "A", "ab", "ä", "1", "a\nb"]))
VALUES = st.one_of(st.integers(-2, 3), st.sampled_from([*BIG, 2.0**53, 0.5, 1.25, -0.005, 1e19]))
CHECKS = st.one_of(
    st.just("v > 0"),
    st.sampled_from([["v"], ["t"], ["v", "t"]]).flatmap(
        lambda fields: st.sampled_from([{"not_null": fields}, {"unique": fields}])
    ),
    st.fixed_dictionaries(
        {"in": st.fixed_dictionaries({"field": st.sampled_from(["v", "d"]), "values": st.lists(VALUES, min_size=1)})}
    ),
    st.fixed_dictionaries(
        {"range": st.fixed_dictionaries({"field": st.sampled_from(["v", "d"]), "min": VALUES, "max": VALUES})}
    ),
    st.sampled_from(["a.*", "[a-z]?", ".b"]).map(lambda pattern: {"regex": {"field": "t", "pattern": pattern}}),
)
RULES = st.lists(st.tuples(CHECKS, st.sampled_from(["reject", "reject", "warn", "fail"])), min_size=1, max_size=4)


def _passes(check: Any, row: Any, seen: set[Any]) -> bool:
    match check:
        case str():
            return row["v"] is not None and row["v"] > 0
        case {"not_null": fields}:
            return all(row[name] is not None for name in fields)
        case {"unique": fields}:
            key = tuple(row[name] for name in fields)
            new = None in key or key not in seen
            seen.add(key)
            return new
        case {"in": {"field": field, "values": values}}:
            return row[field] is None or row[field] in [Decimal(repr(value)) for value in values]
        case {"range": {"field": field, "min": low, "max": high}}:
            return row[field] is None or Decimal(repr(low)) <= row[field] <= Decimal(repr(high))
        case {"regex": {"pattern": pattern}}:
            return row["t"] is None or re.fullmatch(pattern, row["t"]) is not None
    raise AssertionError(check)


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.tuples(WHOLE, PARTS, TEXT), max_size=12), rules=RULES, batch_rows=st.integers(1, 12))
def test_each_row_goes_where_python_sends_it(transform: Any, rows: Any, rules: Any, batch_rows: int) -> None:
    kinds: dict[str, pa.DataType] = {"v": pa.int64(), "d": pa.decimal128(5, 2), "t": pa.string()}
    given_rows = [dict(zip(kinds, row, strict=True)) for row in rows]
    kept, refused, warned, failed = [], Counter[str](), Counter[str](), False
    seen: list[set[Any]] = [set() for _ in rules]
    for row in given_rows:
        for at, (check, on_fail) in enumerate(rules):
            if not _passes(check, row, seen[at]):
                failed = failed or on_fail == "fail"
                (refused if on_fail == "reject" else warned)[f"r{at}"] += 1
                if on_fail == "reject":
                    break
        else:
            kept.append(row)
    step = {"validate": [{"rule": f"r{at}", "check": c, "on_fail": f} for at, (c, f) in enumerate(rules)]}
    table = pa.Table.from_pylist(given_rows, pa.schema(kinds))
    if failed:
        with pytest.raises(Invalid) as caught:
            transform([step], table, batch_rows=batch_rows)
        assert caught.value.code == "validation-failed"
        return
    out = transform([step], table, batch_rows=batch_rows)
    assert out.values == kept
    (counts,) = out.counts
    assert (Counter(counts.rejected), Counter(counts.warned)) == (refused, warned)
    assert counts.read == counts.written + sum(refused.values()) == len(rows)
