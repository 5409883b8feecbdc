"""explode: a row for each element, none for an empty list; nothing lost, nothing held without bounds."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataaggregator.dataplane.steps.engine import BATCH_ROWS
from dataaggregator.errors import Invalid

ROWS = [
    {"id": 1, "v": ["a", "b"], "z": 9},
    {"id": 2, "v": [], "z": 8},
    {"id": 3, "v": None, "z": 7},
    {"id": 4, "v": [None], "z": 6},
]


def test_each_element_is_a_row_where_the_list_stood(transform: Any) -> None:
    out = transform([{"explode": {"field": "v"}}], ROWS)
    assert (out.schema.names, out.schema.types) == (["id", "v", "z"], [pa.int64(), pa.string(), pa.int64()])
    assert out.values == [{"id": 1, "v": "a", "z": 9}, {"id": 1, "v": "b", "z": 9}, {"id": 4, "v": None, "z": 6}]


def test_elements_and_empty_lists_are_counted(transform: Any) -> None:
    (counts,) = transform([{"explode": {"field": "v"}}], ROWS, batch_rows=1).counts
    assert (counts.kind, counts.accounting) == ("explode", "proven")
    assert (counts.read, counts.written, counts.lengths, counts.empty) == (4, 3, 3, 2)


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int64()), pa.list_(pa.int64(), 2)])
def test_every_kind_of_list_is_taken(transform: Any, kind: pa.DataType) -> None:
    out = transform([{"explode": {"field": "v"}}], pa.table({"v": pa.array([[1, 2], None, [3, None]], kind)}))
    assert out.values == [{"v": 1}, {"v": 2}, {"v": 3}, {"v": None}]


def test_values_behind_a_null_list_are_nobodys(transform: Any) -> None:
    mask = pa.array([True, False])
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), pa.array([1, 2, 3, 4]), mask=mask)
    out = transform([{"explode": {"field": "v"}}], pa.table({"id": [1, 2], "v": lists}))
    assert out.values == [{"id": 2, "v": 3}, {"id": 2, "v": 4}]
    assert (out.counts[0].lengths, out.counts[0].empty) == (2, 1)


def test_structs_in_a_list_are_exploded_then_flattened(transform: Any) -> None:
    rows = [{"id": 1, "lines": [{"sku": "x", "n": 1}, None]}, {"id": 2, "lines": [{"sku": "y", "n": 2}]}]
    steps = [{"explode": {"field": "lines"}}, {"flatten": {"field": "lines", "prefix": ""}}]
    assert transform(steps, rows).values == [
        {"id": 1, "sku": "x", "n": 1},
        {"id": 1, "sku": None, "n": None},
        {"id": 2, "sku": "y", "n": 2},
    ]


def test_json_is_exploded_after_it_was_said_of_what(transform: Any) -> None:
    table = pa.table({"j": pa.array(['[1, {"a": 2}]', None, "[]"], pa.json_(pa.string()))})
    steps = [{"derive": {"j": "from_json(j, '[\"JSON\"]')"}}, {"explode": {"field": "j"}}]
    assert [row["j"] for row in transform(steps, table).values] == ["1", '{"a":2}']


def test_a_map_is_exploded_by_its_entries(transform: Any) -> None:
    table = pa.table({"m": pa.array([[("a", 1), ("b", 2)]], pa.map_(pa.string(), pa.int64()))})
    steps = [
        {"derive": {"m": "map_entries(m)"}},
        {"explode": {"field": "m"}},
        {"flatten": {"field": "m", "prefix": ""}},
    ]
    assert transform(steps, table).values == [{"key": "a", "value": 1}, {"key": "b", "value": 2}]


def test_what_a_later_step_rejects_is_one_element_each(transform: Any) -> None:
    steps = [{"explode": {"field": "v"}}, {"validate": [{"rule": "r", "check": "v = 'a'"}]}]
    out = transform(steps, ROWS)
    refused = [row for message in out.refused for row in message.rows.to_pylist()]
    assert refused == [{"id": 1, "v": "b", "z": 9}, {"id": 4, "v": None, "z": 6}]
    assert out.counts[1].rejected == {"r": 2}


def test_a_long_list_goes_on_in_pieces(transform: Any) -> None:
    many = 2 * BATCH_ROWS + 1
    out = transform([{"explode": {"field": "v"}}], pa.table({"id": [1], "v": [list(range(many))]}))
    assert max(batch.num_rows for batch in out.batches) <= BATCH_ROWS
    assert out.table.column("v").to_pylist() == list(range(many))


def test_wide_rows_go_on_in_smaller_pieces(transform: Any) -> None:
    wide = pa.table({"text": ["x" * (1 << 20)], "v": [list(range(50))]})
    out = transform([{"explode": {"field": "v"}}], wide)
    assert max(batch.nbytes for batch in out.batches) <= 17 << 20
    assert out.table.column("v").to_pylist() == list(range(50))


def test_types_the_engine_cannot_keep_pass_through(transform: Any) -> None:
    table = pa.table({"v": pa.array([[1, None]], pa.list_(pa.timestamp("ns", "Europe/Zurich")))})
    out = transform([{"explode": {"field": "v"}}], table)
    assert out.table.column("v").type == pa.timestamp("ns", "Europe/Zurich")
    assert out.table.column("v").cast(pa.int64()).to_pylist() == [1, None]


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        ("w", [[1]], "there is no field w here"),
        ("v", ["a"], "explode takes a list, v is string"),
        ("v", [{"a": 1}], "explode takes a list, v is struct"),
        ("v", pa.array(["[]"], pa.json_(pa.string())), "from_json(v, "),
        ("v", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "map_entries(v)"),
        ("v", [None], "explode takes a list, v is null"),
    ],
)
def test_what_cannot_be_exploded_is_told_before_any_row(transform: Any, name: str, column: Any, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        transform([{"explode": {"field": name}}], pa.table({"v": column}).slice(0, 0))
    (error,) = caught.value.errors
    assert error.field == "steps[0].explode.field"
    assert words in error.message


LISTS = st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-3, 3)), max_size=4)), max_size=25)


@settings(max_examples=50, deadline=None)
@given(lists=LISTS, above=st.integers(-1, 20), batch_rows=st.integers(1, 20))
def test_rows_are_those_python_makes(transform: Any, lists: Any, above: int, batch_rows: int) -> None:
    kinds: dict[str, pa.DataType] = {"id": pa.int64(), "v": pa.list_(pa.int64())}
    table = pa.Table.from_pylist([{"id": n, "v": v} for n, v in enumerate(lists)], pa.schema(kinds))
    steps = [{"filter": f"id > {above}"}, {"explode": {"field": "v"}}, {"validate": [{"rule": "r", "check": "v > 0"}]}]
    out = transform(steps, table, batch_rows=batch_rows)
    made = [{"id": n, "v": v} for n, values in enumerate(lists) if n > above for v in values or ()]
    assert out.values == [row for row in made if row["v"] is not None and row["v"] > 0]
    refused = [row for message in out.refused for row in message.rows.to_pylist()]
    assert refused == [row for row in made if row["v"] is None or row["v"] <= 0]
    counts = out.counts[1]
    read = lists[above + 1 :]
    assert (counts.read, counts.written, counts.lengths) == (len(read), len(made), len(made))
    assert counts.empty == sum(not values for values in read)
