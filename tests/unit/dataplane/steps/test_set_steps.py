"""join, aggregate, sql: rows, counts, and the laws between them."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.dataplane.sandbox.messages import InputCounts
from dataaggregator.errors import Invalid

ORDERS = [{"id": 1, "c": "x"}, {"id": 2, "c": "y"}, {"id": 3, "c": "x"}, {"id": 4, "c": None}, {"id": 5, "c": "q"}]
CUSTOMERS = [{"c": "x", "n": "Xa"}, {"c": "y", "n": "Yb"}, {"c": "z", "n": "Zc"}]


def _join(how: str, expect: str = "any") -> list[dict[str, Any]]:
    return [{"join": {"with": "customers", "on": ["c"], "how": how, "expect": expect}}]


@pytest.mark.parametrize(
    ("how", "ids"),
    [("inner", [1, 2, 3]), ("left", [1, 2, 3, 4, 5]), ("full", [1, 2, 3, 4, 5, None]), ("anti", [4, 5])],
)
def test_each_way_of_joining(transform: Any, how: str, ids: list[int | None]) -> None:
    out = transform(_join(how), ORDERS, customers=CUSTOMERS)
    assert sorted((row["id"] for row in out.values), key=lambda i: i or 99) == ids
    counts = out.counts[0]
    assert counts.inputs == {"flow": InputCounts(5, 3, 2), "customers": InputCounts(3, 2, 1)}
    assert counts.written == len(ids)
    assert counts.fan_out == 0


@pytest.mark.parametrize("key", ["n", "N", "n_", "f", "w"])
def test_names_of_ours_are_free_for_keys(transform: Any, key: str) -> None:
    out = transform([{"join": {"with": "other", "on": [key], "expect": "one_to_one"}}], [{key: 2}], other=[{key: 2}])
    assert (out.values, out.counts[0].fan_out) == ([{key: 2}], 0)


def test_a_full_join_keeps_the_key_of_either_side(transform: Any) -> None:
    out = transform(_join("full"), ORDERS, customers=CUSTOMERS)
    assert {"c": "z", "id": None, "n": "Zc"} in [dict(row) for row in out.values]


def test_fan_out_is_counted(transform: Any) -> None:
    twice = [*CUSTOMERS, {"c": "x", "n": "Xx"}]
    counts = transform(_join("inner"), ORDERS, customers=twice).counts[0]
    assert (counts.fan_out, counts.written) == (2, 5)


@pytest.mark.parametrize("expect", ["many_to_one", "one_to_one"])
def test_unexpected_fan_out_fails_with_a_sentence(transform: Any, expect: str) -> None:
    twice = [*CUSTOMERS, {"c": "x", "n": "Xx"}]
    with pytest.raises(Invalid, match="1 values of c stand in more than one row of customers") as caught:
        transform(_join("inner", expect), ORDERS, customers=twice)
    assert caught.value.code == "join-fan-out"


def test_what_was_expected_passes(transform: Any) -> None:
    assert len(transform(_join("inner", "many_to_one"), ORDERS, customers=CUSTOMERS).values) == 3
    assert len(transform(_join("inner", "one_to_one"), ORDERS[1:], customers=CUSTOMERS).values) == 2
    with pytest.raises(Invalid, match="of flow"):
        transform(_join("inner", "one_to_many"), ORDERS, customers=CUSTOMERS)


def test_keys_of_different_types_are_refused(transform: Any) -> None:
    with pytest.raises(Invalid, match="cast one of them first"):
        transform(_join("inner"), [{"c": 1}], customers=CUSTOMERS)


def test_a_field_on_both_sides_is_refused(transform: Any) -> None:
    with pytest.raises(Invalid, match="two fields would be named n"):
        transform(_join("inner"), [{"c": "x", "n": 1}], customers=CUSTOMERS)


def test_a_join_keeps_the_types(transform: Any) -> None:
    flow = pa.table({"c": pa.array(["x"], pa.large_string()), "t": pa.array([1], pa.timestamp("us", "Europe/Zurich"))})
    other = pa.table({"c": ["x"], "d": pa.array(["q"]).dictionary_encode(), "b": [True]})
    out = transform(_join("inner"), flow, customers=other)
    assert out.table.schema.types == [*flow.schema.types, *other.schema.types[1:]]
    assert out.values[0]["b"] is True


def test_aggregate_counts_every_row_into_a_group(transform: Any) -> None:
    steps = [{"aggregate": {"by": ["c"], "measures": {"n": "count(*)", "total": "sum(id)"}}}]
    out = transform(steps, ORDERS)
    assert {row["c"]: (row["n"], row["total"]) for row in out.values} == {
        "x": (2, Decimal(4)), "y": (1, Decimal(2)), None: (1, Decimal(4)), "q": (1, Decimal(5)),
    }  # fmt: skip
    counts = out.counts[0]
    assert (counts.read, counts.written, counts.groups, counts.counted) == (5, 4, 4, 5)


def test_without_by_there_is_one_group_even_of_no_rows(transform: Any) -> None:
    out = transform([{"filter": "false"}, {"aggregate": {"measures": {"n": "count(*)"}}}], ORDERS)
    assert out.values == [{"n": 0}]
    assert out.counts[1].counted == 0


def test_a_measure_that_is_no_aggregate_is_refused(transform: Any) -> None:
    with pytest.raises(Invalid) as caught:
        transform([{"aggregate": {"by": ["c"], "measures": {"n": "id + 1"}}}], ORDERS)
    assert caught.value.errors[0].field == "steps[0].aggregate.measures.n"


def test_a_measure_that_fails_on_a_row_is_told_with_its_place(transform: Any) -> None:
    measures = {"n": "count(*) + {{ parameters.n }}", "x": "sum(c::INTEGER)"}
    with pytest.raises(Invalid) as caught:
        transform([{"aggregate": {"measures": measures}}], ORDERS, parameters={"n": 1})
    assert (caught.value.code, caught.value.errors[0].field) == ("expression-failed", "steps[0].aggregate.measures.x")


def test_sql_reads_its_inputs_by_name_and_is_not_accounted_for(transform: Any) -> None:
    sql = "with t as (select c, count(*) as n from flow group by c)\n"
    sql += "select t.*, customers.n as name from t join customers using (c)"
    out = transform([{"filter": "id < 4"}, {"sql": sql}], ORDERS, customers=CUSTOMERS)
    assert {row["c"]: row["n"] for row in out.values} == {"x": 2, "y": 1}
    assert out.counts[1].accounting == "unaccounted"
    assert out.counts[1].inputs == {"flow": InputCounts(3), "customers": InputCounts(3)}


def test_sql_keeps_the_order_it_asks_for(transform: Any) -> None:
    out = transform([{"sql": "select id from flow order by id desc limit 3;"}], ORDERS)
    assert [row["id"] for row in out.values] == [5, 4, 3]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select *\nfrom flow where nothing > 1", "line 2, column 17"),
        ("select * from other", "other is none of the inputs"),
        ("select * from collected_1", "collected_1 is none of the inputs"),
        ("select id, id from flow", "two fields would be named id"),
        ("select * from read_csv('/etc/passwd')", "read_csv may not be used here"),
        ("select 1; select 2", "one statement"),
        ("drop table collected_1", ""),
    ],
)
def test_sql_that_cannot_be_is_told_with_its_place(transform: Any, sql: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        transform([{"sql": sql}], ORDERS)
    assert caught.value.errors[0].field == "steps[0].sql"
    assert words in caught.value.errors[0].message


def test_steps_behind_a_set_wise_one_go_on_batch_by_batch(transform: Any) -> None:
    steps = [*_join("left"), {"filter": "n is not null"}, {"aggregate": {"by": ["n"], "measures": {"k": "count(*)"}}},
             {"cast": {"k": "tinyint"}}]  # fmt: skip
    out = transform(steps, ORDERS, customers=CUSTOMERS)
    assert sorted((row["n"], row["k"]) for row in out.values) == [("Xa", 2), ("Yb", 1)]
    assert [counts.read for counts in out.counts] == [5, 5, 3, 2]


@pytest.mark.parametrize(
    ("sql", "expect", "holds"),
    [
        ("select * from flow", "one_to_one", True),
        ("select * from flow limit 2", "one_to_one", False),
        ("select * from flow limit 2", "many_to_one", True),
        ("select * from flow union all select * from flow", "many_to_one", False),
        ("select * from flow union all select * from flow", "one_to_many", True),
        ("select * from flow limit 2", "one_to_many", False),
        ("select * from flow join customers using (c)", "one_to_one", False),
    ],
)
def test_what_is_expected_of_sql_is_declared_or_fails(transform: Any, sql: str, expect: str, holds: bool) -> None:
    others = {"customers": CUSTOMERS} if "customers" in sql else {}
    steps = [{"sql": sql, "expect": expect}]
    if holds:
        (counts,) = transform(steps, ORDERS, **others).counts
        accounting = "declared" if "union" in sql else "proven"
        assert (counts.accounting, counts.expect, counts.flow) == (accounting, expect, len(ORDERS))
        return
    with pytest.raises(Invalid, match=f"{expect} was expected, .*; {len(ORDERS)} came in and") as caught:
        transform(steps, ORDERS, **others)
    assert (caught.value.code, caught.value.errors[0].field) == ("expectation-failed", "steps[0].expect")


def test_only_what_an_aggregate_names_goes_into_the_engine(transform: Any) -> None:
    kept_aside = pa.array([1, 2, 2], pa.duration("s"))  # the engine would change it
    flow = pa.table({"aside": kept_aside, "c": ["x", "y", "x"], "Order": [{"n": 1}, {"n": 2}, {"n": 3}]})
    steps = [{"aggregate": {"by": ["c"], "measures": {"total": 'sum("order".n)', "rows": "count(*)"}}}]
    assert sorted(transform(steps, flow).values, key=lambda row: row["c"]) == [
        {"c": "x", "total": 4, "rows": 2},
        {"c": "y", "total": 2, "rows": 1},
    ]
    with pytest.raises(Invalid, match="aside") as caught:
        transform([{"aggregate": {"by": ["c"], "measures": {"last": "max(aside)"}}}], flow)
    assert caught.value.code == "type-unsupported"


def test_rows_are_counted_whatever_else_is_in_them(transform: Any) -> None:
    flow = pa.table({"aside": pa.array([1, 2, None], pa.duration("s")), "id": [1, 2, 2]})
    out = transform([{"aggregate": {"by": [], "measures": {"rows": "count(*)"}}}], flow)
    assert (out.values, out.counts[0].counted) == ([{"rows": 3}], 3)
