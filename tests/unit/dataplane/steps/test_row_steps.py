"""select, drop, rename, derive, filter: values, types, counts."""

import datetime as dt
import decimal
import uuid
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.errors import Invalid

ROWS = [{"id": 1, "name": "a"}, {"id": 2, "name": None}, {"id": None, "name": "c"}]


def test_select_keeps_the_fields_in_the_order_given(transform: Any) -> None:
    assert transform([{"select": ["name", "id"]}], ROWS).schema.names == ["name", "id"]


def test_drop_leaves_fields_out(transform: Any) -> None:
    assert transform([{"drop": ["name"]}], ROWS).values == [{"id": 1}, {"id": 2}, {"id": None}]


def test_rename_gives_new_names(transform: Any) -> None:
    assert transform([{"rename": {"id": "name", "name": "id"}}], ROWS).values[0] == {"name": 1, "id": "a"}


def test_derive_sees_the_row_as_it_came_in(transform: Any) -> None:
    out = transform([{"derive": {"id": "id + 1", "old": "id"}}], ROWS[:2])
    assert out.values == [{"id": 2, "name": "a", "old": 1}, {"id": 3, "name": None, "old": 2}]


def test_division_is_the_engines(transform: Any) -> None:
    assert transform([{"derive": {"x": "7 / 2"}}], ROWS[:1]).values[0]["x"] == 3.5


def test_whole_numbers_of_128_bits_become_decimals(transform: Any) -> None:
    out = transform([{"derive": {"x": "factorial(20)"}}], ROWS[:1])
    assert out.schema.field("x").type == pa.decimal128(38, 0)
    assert out.values[0]["x"] == decimal.Decimal("2432902008176640000")


def test_filter_counts_false_and_null_apart(transform: Any) -> None:
    out = transform([{"filter": "id > 1"}], ROWS)
    assert [row["id"] for row in out.values] == [2]
    assert dict(out.counts[0].filtered) == {"condition is false": 1, "condition is null": 1}
    assert (out.counts[0].read, out.counts[0].written) == (3, 1)


def test_a_parameter_is_a_value_and_never_text(transform: Any) -> None:
    steps = [{"filter": "name = {{ parameters.n }}"}, {"derive": {"n": "{{ parameters.n }}", "m": "{{parameters.m}}"}}]
    hostile = "a' OR 1=1 --"
    assert transform(steps, ROWS, parameters={"n": hostile, "m": 1}).values == []
    assert transform(steps, ROWS, parameters={"n": "a", "m": 1}).values == [{"id": 1, "name": "a", "n": "a", "m": 1}]


def test_a_date_parameter_is_a_date(transform: Any) -> None:
    rows = [{"d": dt.date(2026, 1, 1)}, {"d": dt.date(2026, 2, 1)}]
    out = transform([{"filter": "d >= {{ parameters.since }}"}], rows, parameters={"since": dt.date(2026, 1, 15)})
    assert out.values == rows[1:]


@pytest.mark.parametrize(
    ("step", "field", "words"),
    [
        ({"select": ["nme"]}, "steps[0].select", "did you mean name"),
        ({"drop": ["x"]}, "steps[0].drop", "there is no field x"),
        ({"drop": ["id", "name"]}, "steps[0].drop", "no field would be left"),
        ({"rename": {"id": "name"}}, "steps[0].rename", "two fields would be named name"),
        ({"derive": {"x": "1 +\n  nme"}}, "steps[0].derive.x", "line 2, column 3"),
        ({"derive": {"x": "abs(name, 1)"}}, "steps[0].derive.x", "No function matches"),
        ({"filter": "id"}, "steps[0].filter", "a condition is true or false"),
        ({"filter": "sum(id) > 1"}, "steps[0].filter", "line 1, column 1: sum may not be used here"),
        ({"filter": "current_date > date '2020-01-01'"}, "steps[0].filter", "current_date may not be used"),
        ({"filter": "(select true)"}, "steps[0].filter", "a subquery cannot stand"),
        ({"derive": {"x": "row_number() over ()"}}, "steps[0].derive.x", "a window function cannot stand"),
    ],
)
def test_what_does_not_bind_is_told_with_its_place(transform: Any, step: Any, field: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        transform([step], ROWS)
    assert caught.value.code == "definition-invalid"
    assert caught.value.errors[0].field == field
    assert words in caught.value.errors[0].message


def test_an_expression_that_fails_on_a_row_names_the_stage_and_its_place(transform: Any) -> None:
    derive = {"n": "{{ parameters.n }} + id", "x": "{{ parameters.m }} || name::INTEGER", "y": "id"}
    with pytest.raises(Invalid) as caught:
        transform([{"derive": derive}], ROWS, parameters={"n": 1, "m": "x"})
    assert (caught.value.code, caught.value.errors[0].field) == ("expression-failed", "steps[0].derive.x")
    assert caught.value.detail.startswith("t[0]: line 1, column 27: a value of name cannot be converted to INT32")


def test_fields_no_expression_touches_keep_type_and_value(transform: Any) -> None:
    kept = pa.table(
        {
            "id": [1, 2],
            "d256": pa.array([decimal.Decimal("1.23")] * 2, pa.decimal256(50, 2)),
            "ns": pa.array([1, 1_234_567_891], pa.timestamp("ns", "Europe/Zurich")),
            "dict": pa.array(["a", "b"]).dictionary_encode(),
            "uuid": pa.array([uuid.uuid4().bytes] * 2, pa.uuid()),
            "half": pa.array([1, 2], pa.float32()).cast(pa.float16()),
        }
    )
    out = transform([{"filter": "id > 1"}, {"derive": {"x": "id * 2"}}], kept)
    assert out.table.drop_columns(["x"]).equals(kept.slice(1))


def test_a_field_the_engine_cannot_keep_is_not_there_for_expressions(transform: Any) -> None:
    rows = pa.table({"id": [1], "big": pa.array([decimal.Decimal(1)], pa.decimal256(50, 2))})
    with pytest.raises(Invalid) as caught:
        transform([{"filter": "big > 0"}], rows)
    assert "big" in caught.value.detail


def test_rows_without_any_field_the_engine_takes_can_still_be_derived(transform: Any) -> None:
    rows = pa.table({"big": pa.array([decimal.Decimal(1)] * 3, pa.decimal256(50, 2))})
    assert transform([{"derive": {"one": "1"}}], rows).table.column("one").to_pylist() == [1, 1, 1]


def test_names_with_a_nul_are_refused_where_the_engine_would_mistake_one_for_another(transform: Any) -> None:
    rows = pa.table({"a\0b": ["wrong"], "a": ["right"]})
    for step in (
        {"derive": {"x": "a"}},
        {"filter": "a = 'right'"},
        {"cast": {"a": "text"}},
        {"dedupe": {"key": ["a\0b"]}},
    ):
        with pytest.raises(Invalid, match=r"'a\\x00b' has a NUL in it; rename it"):
            transform([step], rows)
    out = transform([{"rename": {"a\0b": "b"}}, {"derive": {"x": "a"}}], rows)
    assert out.values == [{"b": "wrong", "a": "right", "x": "right"}]


@pytest.mark.parametrize("struct", [{"a\0b": 7, "c": 8}, {"A": 7, "a": 8}], ids=["nul", "case"])
def test_a_struct_whose_names_the_engine_mistakes_is_kept_from_it(transform: Any, struct: Any) -> None:
    rows = pa.table({"id": [1], "s": [struct]})
    with pytest.raises(Invalid):
        transform([{"derive": {"x": "s.a"}}], rows)
    with pytest.raises(Invalid, match="cannot keep exactly"):
        transform([{"dedupe": {"key": ["s"]}}], rows)
    assert transform([{"dedupe": {"key": ["id"]}}], rows).values == rows.to_pylist()
    assert transform([{"filter": "id > 0"}], rows).values == rows.to_pylist()


@pytest.mark.parametrize("kind", [pa.uuid(), pa.json_(pa.string())], ids=str)
def test_lists_and_structs_of_uuids_and_json_pass_every_kind_of_step(transform: Any, kind: Any) -> None:
    inner = pa.array([uuid.UUID(int=1).bytes if kind == pa.uuid() else "{}"], kind)
    lists = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), inner)
    rows = pa.table({"id": [1], "l": lists, "s": pa.StructArray.from_arrays([inner], names=["x"])})
    steps = [
        {"filter": "id > 0"},
        {"derive": {"n": "len(l)"}},
        {"dedupe": {"key": ["id"]}},
        {"explode": {"field": "l"}},
    ]
    out = transform([*steps, {"flatten": {"field": "s"}}], rows)
    assert out.schema.types == [pa.int64(), kind, kind, pa.int64()]
    assert out.table.num_rows == 1


def test_names_that_differ_only_in_case_are_refused_where_the_engine_is_needed(transform: Any) -> None:
    rows = pa.table({"a": [1], "A": [2]})
    assert transform([{"select": ["A"]}], rows).values == [{"A": 2}]
    with pytest.raises(Invalid, match="upper and lower case"):
        transform([{"filter": "a > 0"}], rows)


@pytest.mark.parametrize(
    "step",
    [
        {"filter": "id > {{ parameters.least }}"},
        {"derive": {"x": "id + {{ parameters.least }}"}},
        {"aggregate": {"by": [], "measures": {"x": "max(id + {{ parameters.least }})"}}},
        {"sql": "select id + {{ parameters.least }} as x from flow"},
    ],
)
def test_without_a_pipeline_a_parameter_is_named_as_missing(transform: Any, step: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        transform([step], [{"id": 1}])
    assert (caught.value.code, "the parameter least" in caught.value.detail) == ("parameters-invalid", True)
