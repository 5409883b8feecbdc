"""flatten: the fields of a struct in its place, under their names, NULL where the struct is."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataaggregator.errors import Invalid

ROWS = [
    {"id": 1, "s": {"a": 1, "b": "x"}, "z": 9},
    {"id": 2, "s": None, "z": 8},
    {"id": 3, "s": {"a": None, "b": "y"}, "z": 7},
]


def test_the_fields_stand_where_the_struct_stood(transform: Any) -> None:
    out = transform([{"flatten": {"field": "s"}}], ROWS)
    assert out.schema.names == ["id", "s_a", "s_b", "z"]
    assert out.values == [
        {"id": 1, "s_a": 1, "s_b": "x", "z": 9},
        {"id": 2, "s_a": None, "s_b": None, "z": 8},
        {"id": 3, "s_a": None, "s_b": "y", "z": 7},
    ]


def test_null_structs_are_counted_as_empty_and_no_row_is_lost(transform: Any) -> None:
    (counts,) = transform([{"flatten": {"field": "s"}}], ROWS, batch_rows=1).counts
    assert (counts.read, counts.written, counts.empty) == (3, 3, 1)


@pytest.mark.parametrize(("prefix", "names"), [("", ["id", "a", "b", "z"]), ("über.", ["id", "über.a", "über.b", "z"])])
def test_the_prefix_may_be_another_or_none(transform: Any, prefix: str, names: list[str]) -> None:
    assert transform([{"flatten": {"field": "s", "prefix": prefix}}], ROWS).schema.names == names


def test_a_struct_in_a_struct_is_flattened_by_another_step(transform: Any) -> None:
    steps = [{"flatten": {"field": "o", "prefix": ""}}, {"flatten": {"field": "i"}}]
    assert transform(steps, [{"o": {"i": {"n": 1}}}, {"o": None}]).values == [{"i_n": 1}, {"i_n": None}]


def test_json_is_flattened_after_its_fields_were_named(transform: Any) -> None:
    table = pa.table({"j": pa.array(['{"a": 1, "c": 2}', None, "{}"], pa.json_(pa.string()))})
    derive = {"derive": {"j": 'from_json(j, \'{"a": "BIGINT", "b": "VARCHAR"}\')'}}
    out = transform([derive, {"flatten": {"field": "j", "prefix": ""}}], table)
    assert out.values == [{"a": 1, "b": None}, {"a": None, "b": None}, {"a": None, "b": None}]


def test_what_a_later_step_rejects_is_the_row_as_it_came_in(transform: Any) -> None:
    steps = [{"flatten": {"field": "s"}}, {"validate": [{"rule": "r", "check": {"not_null": "s_b"}}]}]
    (refused,) = transform(steps, ROWS).refused
    assert refused.rows.to_pylist() == [ROWS[1]]


def test_types_the_engine_cannot_keep_pass_through(transform: Any) -> None:
    inner = pa.array([1, None], pa.timestamp("ns", "Europe/Zurich"))
    table = pa.table({"s": pa.StructArray.from_arrays([inner], names=["t"])})
    out = transform([{"flatten": {"field": "s"}}], table)
    assert out.table.column("s_t").combine_chunks() == inner


@pytest.mark.parametrize(
    ("flatten", "column", "field", "words"),
    [
        ({"field": "t"}, [{"a": 1}], "steps[0].flatten.field", "there is no field t here"),
        ({"field": "s"}, [1], "steps[0].flatten.field", "flatten takes a struct, s is int64"),
        ({"field": "s"}, [[{"a": 1}]], "steps[0].flatten.field", "explode it first"),
        ({"field": "s"}, pa.array(["{}"], pa.json_(pa.string())), "steps[0].flatten.field", "from_json(s, "),
        ({"field": "s"}, pa.array([{}], pa.struct([])), "steps[0].flatten.field", "no field would be left"),
        ({"field": "s", "prefix": ""}, [{"id": 1}], "steps[0].flatten.prefix", "two fields would be named id"),
    ],
)
def test_what_cannot_be_flattened_is_told_before_any_row(
    transform: Any, flatten: Any, column: Any, field: str, words: str
) -> None:
    columns = {"s": column} if "prefix" not in flatten else {"s": column, "id": [1]}
    with pytest.raises(Invalid) as caught:
        transform([{"flatten": flatten}], pa.table(columns).slice(0, 0))
    (error,) = caught.value.errors
    assert error.field == field
    assert words in error.message


INNER: dict[str, pa.DataType] = {"a": pa.int64(), "b": pa.list_(pa.string()), "c": pa.struct([("d", pa.bool_())])}
STRUCTS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "a": st.one_of(st.none(), st.integers(-5, 5)),
            "b": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=2)),
            "c": st.one_of(st.none(), st.fixed_dictionaries({"d": st.one_of(st.none(), st.booleans())})),
        }
    ),
)


@settings(max_examples=40, deadline=None)
@given(structs=st.lists(STRUCTS, max_size=20), above=st.integers(-1, 18), batch_rows=st.integers(1, 20))
def test_each_row_has_what_its_struct_had(transform: Any, structs: list[Any], above: int, batch_rows: int) -> None:
    table = pa.table(
        {"id": pa.array(range(len(structs)), pa.int64()), "s": pa.array(structs, pa.struct(list(INNER.items())))}
    )
    steps = [{"filter": f"id > {above}"}, {"flatten": {"field": "s", "prefix": ""}}]
    out = transform(steps, table, batch_rows=batch_rows)
    nothing = dict.fromkeys(INNER)
    assert out.values == [{"id": n} | (s or nothing) for n, s in enumerate(structs) if n > above]
    assert out.counts[1].empty == sum(s is None for s in structs[above + 1 :])
