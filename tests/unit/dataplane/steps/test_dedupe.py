"""dedupe: which row of a key stays, held against a few lines of Python; and the law read = kept + duplicates."""

import math
from functools import cmp_to_key, partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataaggregator.errors import Invalid

from .conftest import portions_of

ROWS = [
    {"id": 1, "k": "a", "at": 5},
    {"id": 2, "k": None, "at": 1},
    {"id": 3, "k": "a", "at": 9},
    {"id": 4, "k": "A", "at": 0},
    {"id": 5, "k": None, "at": None},
    {"id": 6, "k": "a", "at": 9},
    {"id": 7, "k": "a", "at": None},
]


def _kept(transform: Any, batch_rows: int = 2, **dedupe: Any) -> list[int]:
    out = transform([{"dedupe": {"key": ["k"], **dedupe}}], ROWS, batch_rows=batch_rows)
    return [row["id"] for row in out.values]


def test_the_first_as_read_stays_and_null_equals_null(transform: Any) -> None:
    assert _kept(transform) == [1, 2, 4]


def test_the_last_as_read_stays(transform: Any) -> None:
    assert _kept(transform, keep="last") == [4, 5, 7]


@pytest.mark.parametrize(
    ("more", "ids"),
    [
        ({"order_by": ["at"]}, [1, 2, 4]),
        ({"order_by": ["at desc"]}, [2, 3, 4]),
        ({"order_by": ["at"], "keep": "last"}, [2, 4, 6]),
        ({"order_by": ["at DESC"], "keep": "last"}, [1, 2, 4]),
        ({"order_by": ["at desc", "id desc"]}, [2, 4, 6]),
    ],
)
def test_order_by_decides_then_the_order_as_read_and_null_loses(transform: Any, more: Any, ids: list[int]) -> None:
    assert _kept(transform, **more) == ids


def test_kept_and_duplicates_are_counted(transform: Any) -> None:
    (counts,) = transform([{"dedupe": {"key": ["k"]}}], ROWS).counts
    assert (counts.kind, counts.accounting, counts.read, counts.written) == ("dedupe", "proven", 7, 3)
    assert (counts.kept, counts.duplicates) == (3, 4)


def test_no_rows_are_no_duplicates(transform: Any) -> None:
    (counts,) = transform([{"dedupe": {"key": ["k"]}}], pa.table({"k": pa.array([], pa.int64())})).counts
    assert (counts.read, counts.kept, counts.duplicates, counts.written) == (0, 0, 0, 0)


def test_names_of_ours_are_free_for_fields(transform: Any) -> None:
    rows = [{"n": 1, "turn": 3, "Place": 1, "key": 1, "t": 1}, {"n": 1, "turn": 2, "Place": 2, "key": 1, "t": 1}]
    for more in ({}, {"order_by": ["turn"], "keep": "last"}):
        out = transform([{"dedupe": {"key": ["n", "key", "t"], **more}}], rows)
        assert out.values == rows[:1]
        assert out.schema.names == ["n", "turn", "Place", "key", "t"]


def test_a_field_whose_name_ends_like_a_direction_is_written_with_one(transform: Any) -> None:
    rows = [{"k": 1, "at desc": 1}, {"k": 1, "at desc": 2}]
    out = transform([{"dedupe": {"key": ["k"], "order_by": ["at desc desc"]}}], rows)
    assert out.values == rows[1:]


def test_every_type_comes_through_unchanged(transform: Any) -> None:
    table = pa.table(
        {
            "k": pa.array(["x", "x"], pa.large_string()),
            "d": pa.array(["q", "r"]).dictionary_encode(),
            "at": pa.array([1, 2], pa.timestamp("us", "Europe/Zurich")),
            "s": [{"a": [1, None]}, None],
        }
    )
    out = transform([{"dedupe": {"key": ["k"]}}], table)
    assert out.table.schema == table.schema
    assert out.values == table.slice(0, 1).to_pylist()


def test_what_is_not_compared_comes_through_whatever_the_engine_makes_of_it(transform: Any) -> None:
    nanoseconds = pa.array([4, 86_399_999_999_999], pa.time64("ns"))
    table = pa.table({"a": [1, 1], "A": [2, 3], "a\0b": nanoseconds, "s": [{"A": 7, "a": 8}, {"A": 9, "a": 1}]})
    out = transform([{"dedupe": {"key": ["a"], "keep": "last"}}], table)
    assert out.table == table.slice(1)


def test_rows_leave_in_order_however_the_batches_lie(transform: Any) -> None:
    rows = [{"k": n // 2, "n": n} for n in range(200_000)]
    out = transform([{"dedupe": {"key": ["k"]}}], rows, batch_rows=7_001)
    assert out.table.column("n").to_pylist() == list(range(0, 200_000, 2))


@pytest.mark.parametrize(
    ("dedupe", "field", "words"),
    [
        ({"key": ["kk"]}, "steps[0].dedupe.key", "there is no field kk here; did you mean k?"),
        ({"key": ["k"], "order_by": ["att desc"]}, "steps[0].dedupe.order_by", "did you mean at?"),
    ],
)
def test_a_field_that_is_not_there_is_named(transform: Any, dedupe: Any, field: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        transform([{"dedupe": dedupe}], ROWS)
    (error,) = caught.value.errors
    assert error.field == field
    assert words in error.message


NUMBERS = st.one_of(st.none(), st.integers(-2, 2), st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf]))
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "A", "ä", "a\u0308", "\U0001f600", "\uffff"]))
LINES = st.lists(st.tuples(NUMBERS, TEXTS, NUMBERS, TEXTS), max_size=40)
ORDERS = st.lists(st.sampled_from(["x", "x desc", "u", "u asc", "u desc"]), max_size=2, unique_by=lambda word: word[0])
KINDS: dict[str, pa.DataType] = {
    "f": pa.float64(),
    "t": pa.string(),
    "x": pa.float64(),
    "u": pa.string(),
    "id": pa.int64(),
}
SCHEMA = pa.schema(KINDS)


def _rank(value: Any) -> Any:
    """NaN is the greatest number; texts compare by their code points."""
    return (1, 0.0) if isinstance(value, float) and math.isnan(value) else (0, value)


def _same(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def _better(keep: str, order: list[str], one: Any, other: Any) -> int:
    """Below zero when `one` stays before `other`."""
    for word in order:
        field, _, way = word.partition(" ")
        a, b = one[field], other[field]
        if a is None or b is None:
            if (a is None) != (b is None):
                return 1 if a is None else -1
            continue
        if _rank(a) != _rank(b):
            up = -1 if _rank(a) < _rank(b) else 1
            return up if (way != "desc") == (keep == "first") else -up
    before = -1 if one["id"] < other["id"] else 1
    return before if keep == "first" else -before


@settings(max_examples=60, deadline=None)
@given(
    lines=LINES,
    dedupe=st.fixed_dictionaries(
        {
            "key": st.sampled_from([["f"], ["t"], ["t", "f"]]),
            "keep": st.sampled_from(["first", "last"]),
            "order_by": ORDERS,
        }
    ),
    batch_rows=st.integers(1, 30),
    portion=st.sampled_from([None, 200]),
)
def test_what_stays_is_what_python_keeps(
    transform: Any, lines: Any, dedupe: Any, batch_rows: int, portion: int | None
) -> None:
    rows = [
        {"f": None if f is None else float(f), "t": t, "x": None if x is None else float(x), "u": u, "id": n}
        for n, (f, t, x, u) in enumerate(lines)
    ]
    with portions_of(portion):
        out = transform([{"dedupe": dedupe}], pa.Table.from_pylist(rows, SCHEMA), batch_rows=batch_rows)
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(_same(row[name]) for name in dedupe["key"]), []).append(row)
    better = cmp_to_key(partial(_better, dedupe["keep"], dedupe["order_by"]))
    best = [min(group, key=better) for group in groups.values()]
    assert [row["id"] for row in out.values] == sorted(row["id"] for row in best)
    (counts,) = out.counts
    assert (counts.kept, counts.duplicates) == (len(groups), len(rows) - len(groups))
