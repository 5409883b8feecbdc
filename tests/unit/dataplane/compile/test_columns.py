"""Which columns of a source are read: by kind of step, and all of them wherever anybody could doubt it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from dataaggregator.contracts.steps import STEP_KINDS, Step
from dataaggregator.dataplane.compile.columns import needed
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan, SourceNode, TransformNode

PLACE = pa.struct([pa.field("zip", pa.int32()), pa.field("city", pa.string())])
_ORDERS: dict[str, pa.DataType] = {
    "id": pa.int64(), "customer": pa.int32(), "store": pa.int16(), "amount": pa.decimal128(12, 2), "note": pa.string(),
    "tags": pa.list_(pa.string()), "place": PLACE, "paid": pa.bool_(),
}  # fmt: skip
_STORES: dict[str, pa.DataType] = {"store": pa.int16(), "town": pa.string(), "owner": pa.string()}
ORDERS, STORES = pa.schema(_ORDERS), pa.schema(_STORES)
ALL, ALL_STORES = tuple(ORDERS.names), tuple(STORES.names)
_STEP: TypeAdapter[Step] = TypeAdapter(Step)
SUM = {"aggregate": {"by": ["customer"], "measures": {"total": "sum(amount)"}}}
FILTER = {"filter": "store < 150"}
COUNT = {"aggregate": {"measures": {"n": "count(*)"}}}


def node(name: str, inputs: Sequence[str], steps: Sequence[Mapping[str, Any]]) -> TransformNode:
    return TransformNode(name, tuple(inputs), tuple(_STEP.validate_python(step) for step in steps))


def plan(*nodes: TransformNode, takes: Sequence[str] = (), sources: Sequence[str] = ("orders",)) -> Plan:
    taken = takes or [nodes[-1].name]
    destinations = tuple(DestinationNode(at, name) for at, name in enumerate(taken))
    return Plan(tuple(SourceNode(name) for name in sources), nodes, destinations)


def read(*steps: Mapping[str, Any], schema: pa.Schema = ORDERS) -> tuple[str, ...]:
    return needed(plan(node("t", ["orders"], steps)), {"orders": schema})["orders"]


def read_both(*steps: Mapping[str, Any], **more: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    both = plan(node("t", ["orders", "stores"], steps), sources=["orders", "stores"])
    found = needed(both, {"orders": ORDERS, "stores": STORES, **more})
    return found["orders"], found["stores"]


BY_KIND: dict[str, tuple[list[dict[str, Any]], tuple[str, ...]]] = {
    "select": ([{"select": ["amount", "id"]}], ("id", "amount")),
    "drop": ([{"drop": ["note"]}, SUM], ("customer", "amount", "note")),
    "rename": ([{"rename": {"customer": "k", "paid": "p"}}, {"select": ["k", "note"]}], ("customer", "note", "paid")),
    "cast": ([{"cast": {"store": {"type": "text", "on_error": "fail"}}}, SUM], ("customer", "store", "amount")),
    "derive": ([{"derive": {"x": "store + 1"}}, {"select": ["x"]}], ("store",)),
    "filter": ([{"filter": "store < 150"}, SUM], ("customer", "store", "amount")),
    "validate": (
        [{"validate": [{"rule": "r", "check": "paid", "on_fail": "fail"},
                       {"rule": "s", "check": {"in": {"field": "note", "values": ["a"]}}, "on_fail": "warn"},
                       {"rule": "u", "check": {"unique": ["id"]}, "on_fail": "warn"}]}, SUM],
        ("id", "customer", "amount", "note", "paid"),
    ),
    "dedupe": ([{"dedupe": {"key": ["id"], "order_by": ["store desc"]}}, SUM], ("id", "customer", "store", "amount")),
    "mask": ([{"mask": {"note": "redact"}}, SUM], ("customer", "amount", "note")),
    "flatten": ([{"flatten": {"field": "place"}}, {"select": ["place_city", "id"]}], ("id", "place")),
    "explode": ([{"explode": {"field": "tags"}}, {"select": ["tags", "paid"]}], ("tags", "paid")),
    "join": ([{"join": {"with": "stores", "on": ["store"]}}, {"select": ["id", "town"]}], ("id", "store")),
    "aggregate": ([SUM], ("customer", "amount")),
    "sql": ([{"sql": "SELECT id FROM orders"}], ALL),
    "python": ([{"python": "def transform(rows):\n    return rows.select(['id'])"}], ALL),
}  # fmt: skip


def test_every_kind_of_step_is_here() -> None:
    assert set(BY_KIND) == set(STEP_KINDS)


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_step_needs_what_it_looks_at_and_what_goes_on_behind_it(kind: str) -> None:
    steps, columns = BY_KIND[kind]
    assert read_both(*steps)[0] == columns


def test_rows_that_reach_a_destination_are_whole() -> None:
    assert read({"filter": "id > 1"}) == ALL
    assert read({"derive": {"x": "id"}}) == ALL
    assert needed(plan(takes=["orders"]), {"orders": ORDERS})["orders"] == ALL


def test_one_destination_behind_the_source_itself_is_enough() -> None:
    sums = node("t", ["orders"], [SUM])
    assert needed(plan(sums, takes=["t", "orders"]), {"orders": ORDERS})["orders"] == ALL


def test_several_transformations_need_what_each_of_them_needs() -> None:
    sums, paid = node("sums", ["orders"], [SUM]), node("paid", ["orders"], [{"select": ["paid"]}])
    assert needed(plan(sums, paid, takes=["sums", "paid"]), {"orders": ORDERS})["orders"] == (
        "customer", "amount", "paid",
    )  # fmt: skip


def test_a_transformation_behind_another_is_followed_through_it() -> None:
    first, second = node("a", ["orders"], [{"rename": {"amount": "sum"}}]), node("b", ["a"], [{"select": ["sum"]}])
    assert needed(plan(first, second), {"orders": ORDERS})["orders"] == ("amount",)


def test_rows_that_are_only_counted_have_one_column() -> None:
    assert read(COUNT) == ("paid",)
    assert read(COUNT, schema=pa.schema([("a", pa.string()), ("b", pa.string())])) == ("a",)
    assert read({"drop": ["paid"]}, COUNT) == ("store", "paid"), "a drop leaves one leaves one too"


@pytest.mark.parametrize(
    "rejecting",
    [
        {"cast": {"store": "tinyint"}},
        {"validate": [{"rule": "r", "check": "paid"}]},
        {"validate": [{"rule": "w", "check": "paid", "on_fail": "warn"}, {"rule": "u", "check": {"unique": ["id"]}}]},
    ],
)
class TestARowThatIsSetAsideKeepsAllItsValues:
    def test_before_a_step_that_narrows(self, rejecting: dict[str, Any]) -> None:
        assert read(rejecting, SUM) == ALL

    def test_behind_one_too_since_it_is_kept_as_it_came_in(self, rejecting: dict[str, Any]) -> None:
        assert read({"select": ["store", "paid", "id"]}, rejecting, COUNT) == ALL

    def test_but_not_what_an_earlier_transformation_took_away(self, rejecting: dict[str, Any]) -> None:
        first = node("a", ["orders"], [{"select": ["store", "paid", "id"]}])
        second = node("b", ["a"], [rejecting, COUNT])
        assert needed(plan(first, second), {"orders": ORDERS})["orders"] == ("id", "store", "paid")

    @pytest.mark.parametrize("made_anew", [{"mask": {"note": "redact"}}, {"explode": {"field": "tags"}}])
    def test_nor_what_a_mask_or_an_explode_has_left_behind(
        self, rejecting: dict[str, Any], made_anew: dict[str, Any]
    ) -> None:
        chosen = {"select": ["store", "paid", "id", "note", "tags"]}
        assert read(chosen, made_anew, rejecting, COUNT) == ("id", "store", "note", "tags", "paid")
        assert read(made_anew, rejecting, COUNT) == ALL, "as it left there, with all that is beside"

    def test_nor_what_a_set_wise_step_has(self, rejecting: dict[str, Any]) -> None:
        group = {"aggregate": {"by": ["store", "paid", "id"], "measures": {"total": "sum(amount)"}}}
        assert read(group, rejecting, {"select": ["paid"]}) == ("id", "store", "amount", "paid")


class TestAJoin:
    def test_reads_of_both_what_is_needed_of_them_and_the_key(self) -> None:
        join = {"join": {"with": "stores", "on": ["store"]}}
        assert read_both(join, {"select": ["id", "town"]}) == (("id", "store"), ("store", "town"))

    def test_that_only_looks_whether_there_is_one_reads_no_more_than_the_key(self) -> None:
        join = {"join": {"with": "stores", "on": ["store"], "how": "anti"}}
        assert read_both(join, {"select": ["id"]}) == (("id", "store"), ("store",))

    def test_reads_all_where_both_have_a_field_of_one_name(self) -> None:
        stores = STORES.append(pa.field("note", pa.string()))
        join = {"join": {"with": "stores", "on": ["store"]}}
        assert read_both(join, {"select": ["id", "town"]}, stores=stores) == (ALL, tuple(stores.names))

    def test_reads_all_of_both_where_the_fields_of_one_are_not_known(self) -> None:
        """Also of an input that is beside a flow nobody knows the fields of."""
        free = node("free", ["orders"], [{"sql": "SELECT * FROM orders"}])
        join = {"join": {"with": "stores", "on": ["store"]}}
        schemas, sources = {"orders": ORDERS, "stores": STORES}, ["orders", "stores"]
        behind = plan(free, node("t", ["free", "stores"], [join, {"select": ["town"]}]), sources=sources)
        assert needed(behind, schemas) == {"orders": ALL, "stores": ALL_STORES}
        with_free = {"join": {"with": "free", "on": ["store"]}}
        beside = plan(free, node("t", ["stores", "free"], [with_free, {"select": ["town"]}]), sources=sources)
        assert needed(beside, schemas) == {"orders": ALL, "stores": ALL_STORES}

    def test_rows_that_are_set_aside_behind_it_have_the_fields_of_both(self) -> None:
        rule = {"validate": [{"rule": "r", "check": "paid"}]}
        join = {"join": {"with": "stores", "on": ["store"]}}
        assert read_both(join, rule, {"select": ["id"]}) == (ALL, ALL_STORES)


def test_free_sql_and_python_read_all_of_every_input() -> None:
    assert read_both({"sql": "SELECT o.id FROM orders o JOIN stores s USING (store)"}) == (ALL, ALL_STORES)
    assert read_both({"select": ["id", "store"]}, {"sql": "SELECT id FROM orders"}) == (("id", "store"), ALL_STORES)


def test_a_source_that_is_kept_is_read_whole() -> None:
    parts = (SourceNode("orders (new)", "orders"), SourceNode("orders (kept)", "orders", kept=True))
    keep = TransformNode("orders", tuple(part.name for part in parts), (), keep=("id",))
    whole = Plan(parts, (keep, node("t", ["orders"], [SUM])), (DestinationNode(0, "t"),))
    assert set(needed(whole, dict.fromkeys(("orders (new)", "orders (kept)"), ORDERS)).values()) == {ALL}


class TestAnExpressionMayLookAt:
    """A name can be spelled in as many ways as the engine reads."""

    @pytest.mark.parametrize(
        ("text", "columns"),
        [
            ("STORE > 1", ("store",)),
            ('"Store" > 1', ("store",)),
            ("orders.store > 1", ("store",)),
            ("place.zip > 1", ("place",)),
            ("list_contains(tags, note)", ("note", "tags")),
            ("len([x for x in tags if x = note]) > 0", ("note", "tags")),
            ("len(list_filter(tags, id -> id <> 'x')) > 0", ("id", "tags")),
            ("note.upper() = 'A'", ("note",)),
            ("note = 'the amount'", ("amount", "note")),
            ("note /* paid */ = 'a'", ("note", "paid")),
            ("storey > 1 or stores > 1", ()),
            ("id::text = {{ parameters.id }}", ("id",)),
        ],
    )
    def test_every_field_that_is_spelled_in_it(self, text: str, columns: tuple[str, ...]) -> None:
        assert read({"filter": text}, COUNT) == (columns or ("paid",))

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ('a"b', '"a""b" = 1'),
            ("a b", '"A B" = 1'),
            ("größe", "GRÖSSE = 1"),
            ("-x", '"-x" = 1'),
            ("a$b", "a$b = 1"),
        ],
    )
    def test_fields_whose_names_need_quotes(self, name: str, text: str) -> None:
        fields: dict[str, pa.DataType] = {"other": pa.string(), name: pa.string()}
        schema = pa.schema(fields)
        assert read({"filter": text}, COUNT, schema=schema) == (name,)

    @pytest.mark.parametrize(
        "step",
        [
            {"filter": "to_json(rows_at_hand) <> '{}'"},
            {"filter": '("Rows_at_hand").note = 1'},
            {"derive": {"x": "rows_at_hand"}},
            {"validate": [{"rule": "r", "check": "rows_at_hand is not null", "on_fail": "warn"}]},
            {"aggregate": {"measures": {"n": "max(to_json(collected_1))"}}},
        ],
    )
    def test_the_whole_row_by_the_name_that_the_engine_has_for_it(self, step: dict[str, Any]) -> None:
        assert read(step, COUNT) == ALL


def test_a_field_that_a_derive_sets_anew_stands_where_the_old_one_stood() -> None:
    """Without the old one it would stand behind all others; one that nobody takes need not be there at all."""
    assert read({"derive": {"customer": "store"}}, {"drop": ["id", "note", "amount", "tags", "place", "paid"]}) == ALL
    assert read({"derive": {"note": "store"}}, COUNT) == ("store",)


class TestAllColumnsAreReadWhereTheStepsWouldRefuseThem:
    @pytest.mark.parametrize(
        "step",
        [
            {"select": ["id", "gone"]},
            {"select": ["id", "id"]},
            {"drop": ["gone"]},
            {"drop": [*ALL, "zip"]},
            {"rename": {"gone": "x"}},
            {"rename": {"id": "note"}},
            {"cast": {"gone": {"type": "text", "on_error": "null"}}},
            {"mask": {"gone": "redact"}},
            {"dedupe": {"key": ["gone"]}},
            {"dedupe": {"key": ["id"], "order_by": ["gone"]}},
            {"validate": [{"rule": "r", "check": {"not_null": "gone"}, "on_fail": "warn"}]},
            {"flatten": {"field": "gone"}},
            {"flatten": {"field": "note"}},
            {"flatten": {"field": "place", "prefix": ""}},
            {"explode": {"field": "gone"}},
            {"aggregate": {"by": ["gone"], "measures": {"n": "count(*)"}}},
            {"aggregate": {"by": ["id"], "measures": {"id": "count(*)"}}},
        ],
    )
    def test_what_is_wrong_is_told_as_it_always_was(self, step: dict[str, Any]) -> None:
        schema = ORDERS.append(pa.field("zip", pa.string()))
        assert read(step, COUNT, schema=schema) == tuple(schema.names)

    def test_a_join_by_a_field_that_one_of_them_does_not_have(self) -> None:
        towns = STORES.remove(0)
        for on in ("id", "town"):
            join = {"join": {"with": "stores", "on": [on]}}
            assert read_both(join, {"select": ["note"]}, stores=towns) == (ALL, tuple(towns.names))

    @pytest.mark.parametrize("of", ["orders", "stores"])
    def test_a_join_of_rows_with_a_field_that_the_engine_would_change(self, of: str) -> None:
        """Other steps leave such a field alone."""
        wide = pa.field("wide", pa.decimal256(60, 20))
        schemas = {"orders": ORDERS, "stores": STORES}
        schemas |= {of: schemas[of].append(wide)}
        steps: list[dict[str, Any]] = [{"join": {"with": "stores", "on": ["store"]}}, SUM]
        both = plan(node("t", ["orders", "stores"], steps), sources=["orders", "stores"])
        assert needed(both, schemas) == {name: tuple(schema.names) for name, schema in schemas.items()}
        assert read(FILTER, SUM, schema=ORDERS.append(wide)) == ("customer", "store", "amount")

    def test_two_fields_that_only_their_case_tells_apart(self) -> None:
        schema = ORDERS.append(pa.field("ID", pa.int64()))
        assert read(SUM, schema=schema) == tuple(schema.names)
        assert read({"derive": {"Note": "store"}}, SUM) == ALL

    def test_a_source_that_has_none(self) -> None:
        assert read(COUNT, schema=pa.schema([])) == ()

    def test_two_columns_of_one_name(self) -> None:
        schema = ORDERS.append(pa.field("id", pa.int64()))
        assert read(SUM, schema=schema) == tuple(schema.names)
