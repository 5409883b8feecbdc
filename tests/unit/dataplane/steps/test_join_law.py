"""join, each how with each expect, against a few lines of Python: rows, counts, and what was not expected."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.errors import Invalid

from .conftest import portions_of

NUMBERS = st.one_of(st.none(), st.integers(-1, 2))
SIDES = st.lists(st.tuples(NUMBERS, st.sampled_from([None, "", "a", "A"])), max_size=12)
HOWS, EXPECTS = ("inner", "left", "full", "anti"), ("one_to_one", "many_to_one", "one_to_many", "any")
Key = tuple[Any, ...]
Rows = list[tuple[Any, ...]]


def _oracle(flow: list[Key], with_: list[Key], how: str) -> Rows:
    """(keys, place in the flow, place in the other): None where there is no such row."""
    pairs = [(a, m, n) for m, a in enumerate(flow) for n, b in enumerate(with_) if a == b and None not in a]
    lone = [(a, m, None) for m, a in enumerate(flow) if m not in {m for _, m, _ in pairs}]
    other = [(b, None, n) for n, b in enumerate(with_) if n not in {n for _, _, n in pairs}]
    if how == "anti":
        return [(a, m) for a, m, _ in lone]
    found: Rows = [*pairs, *(lone if how != "inner" else ()), *(other if how == "full" else ())]
    return found


def _unexpected(flow: list[Key], with_: list[Key], expect: str) -> bool:
    matched = {key for key in flow if None not in key} & set(with_)
    here, there = (any(Counter(side)[key] > 1 for key in matched) for side in (flow, with_))
    return (there and expect in ("one_to_one", "many_to_one")) or (here and expect in ("one_to_one", "one_to_many"))


def _table(keys: list[Key], place: str, first: pa.DataType) -> pa.Table:
    numbers = pa.array([None if key[0] is None else Decimal(key[0]) for key in keys], pa.decimal128(9, 2))
    texts, places = pa.array([key[1] for key in keys], pa.string()), pa.array(range(len(keys)), pa.int64())
    return pa.table({"n": numbers.cast(first), "t": texts, place: places})


@settings(max_examples=80, deadline=None)
@given(
    sides=st.tuples(SIDES, SIDES),
    on=st.sampled_from([["n"], ["t"], ["n", "t"]]),
    join=st.fixed_dictionaries({"how": st.sampled_from(HOWS), "expect": st.sampled_from(EXPECTS)}),
    laid=st.tuples(st.sampled_from([pa.int64(), pa.int8(), pa.decimal128(20, 4)]), st.sampled_from([None, 150])),
)
def test_a_join_gives_what_python_gives(transform: Any, sides: Any, on: Any, join: Any, laid: Any) -> None:
    (flow, other), (kind, portion) = sides, laid
    same = pa.int64() if join["how"] != "full" else kind
    left, right = _table(flow, "m", same), _table(other, "o", kind).select([*on, "o"])
    keys = [[tuple(key["nt".index(name)] for name in on) for key in side] for side in (flow, other)]
    steps = [{"join": {"with": "other", "on": on, **join}}]
    if _unexpected(keys[0], keys[1], join["expect"]):
        with portions_of(portion), pytest.raises(Invalid) as caught:
            transform(steps, left, other=right, batch_rows=5)
        assert (caught.value.code, caught.value.errors[0].field) == ("join-fan-out", "steps[0].join.expect")
        return
    with portions_of(portion):
        out = transform(steps, left, other=right, batch_rows=5)
    names = [*on, "m"] if join["how"] == "anti" else [*on, "m", "o"]
    wanted = _oracle(keys[0], keys[1], join["how"])
    assert Counter(tuple(row[name] for name in names) for row in out.values) == Counter((*k, *p) for k, *p in wanted)
    pairs = _oracle(keys[0], keys[1], "inner")
    matched, with_matched = len({m for _, m, _ in pairs}), len({n for _, _, n in pairs})
    (counts,) = out.counts
    assert counts.inputs == {
        "flow": InputCounts(len(flow), matched, len(flow) - matched),
        "other": InputCounts(len(other), with_matched, len(other) - with_matched),
    }
    assert (counts.written, counts.fan_out) == (len(wanted), 0 if join["how"] == "anti" else len(pairs) - matched)
