"""Which filters a source may do: those on a short list, of a step that is the first and only one to see its rows."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.connector.conditions import All, AnyOf, Compared, Condition, IsNull, Not, Truth, columns_of
from dataaggregator.dataplane.compile.filters import MOST, condition_of, first_filters
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan, SourceNode, TransformNode

from .test_columns import ORDERS, SUM, node

_MORE: dict[str, pa.DataType] = {"small": pa.int8(), "unsigned": pa.uint16(), "day": pa.date32(), "share": pa.float64()}
SCHEMA = pa.schema([*ORDERS, *pa.schema(_MORE)])
FILTER = {"filter": "store < 150"}

ON_THE_LIST: dict[str, Condition] = {
    "store < 150": Compared("store", "<", 150),
    '"Store" <= -5': Compared("store", "<=", -5),
    "5 > store": Compared("store", "<", 5),
    "5 <= store": Compared("store", ">=", 5),
    "store = 1": Compared("store", "=", 1),
    "store == 1": Compared("store", "=", 1),
    "store != 1": Compared("store", "<>", 1),
    f"id > {MOST}": Compared("id", ">", MOST),
    f"id >= -{MOST}": Compared("id", ">=", -MOST),
    "small <> 0": Compared("small", "<>", 0),
    "paid": Truth("paid"),
    "not (paid)": Not(Truth("paid")),
    "store is null": IsNull("store"),
    "paid is not null": Not(IsNull("paid")),
    "store in (1, -2)": AnyOf((Compared("store", "=", 1), Compared("store", "=", -2))),
    "store not in (1)": Not(AnyOf((Compared("store", "=", 1),))),
    "store between 1 and 3": All((Compared("store", ">=", 1), Compared("store", "<=", 3))),
    "store < 1 or paid and id = 2": AnyOf((Compared("store", "<", 1), All((Truth("paid"), Compared("id", "=", 2))))),
    "not store = 1 and paid": All((Not(Compared("store", "=", 1)), Truth("paid"))),
}


@pytest.mark.parametrize("text", ON_THE_LIST)
def test_what_is_on_the_list_is_read_as_it_is_meant(text: str) -> None:
    assert condition_of(text, SCHEMA) == ON_THE_LIST[text]


@pytest.mark.parametrize(
    "text",
    [
        "store < 1.5", "store < 1e3", "store < '150'", f"id > {MOST + 1}", f"id > -{MOST + 1}", "store < id", "1 < 2",
        "store + 1 < 150", "abs(store) < 150", "store::int < 150", "-store < 150", "store < 100 + 50",
        "store < {{ parameters.most }}", "store is distinct from 1", "paid = true", "paid is true",
        "paid = (store < 1)",
        "note = 'a'", "note is null", "day = '2026-01-01'", "day = date '2026-01-01'", "amount > 1", "share > 1",
        "unsigned > 1", "share is null", "tags is null", "place is null", "place.zip = 1", "orders.store = 1",
        "rows_at_hand.store = 1", "gone = 1", "gone", "store", "true", "store in (1, '2')", "store in (1, id)",
        "store between 1 and id", "case when paid then true end", "store = any([1, 2])", "coalesce(paid, false)",
        "store < 150 and note = 'a'", "paid or note = 'a'", "not note = 'a'", "store <", "exists (select 1)",
        "store = +1 -- a comment\nor true",
    ],
)  # fmt: skip
def test_everything_else_is_left_to_the_engine(text: str) -> None:
    assert condition_of(text, SCHEMA) is None


def test_a_field_that_is_there_twice_but_for_its_case_is_none() -> None:
    schema = SCHEMA.append(pa.field("STORE", pa.int64()))
    assert condition_of("store < 150", schema) is None


def test_a_condition_tells_its_columns() -> None:
    assert set(columns_of(ON_THE_LIST["store < 1 or paid and id = 2"])) == {"store", "paid", "id"}


def found(*nodes: TransformNode, takes: Sequence[str] = (), sources: Sequence[str] = ("orders",)) -> dict[str, Any]:
    taken = takes or [nodes[-1].name]
    destinations = tuple(DestinationNode(at, name) for at, name in enumerate(taken))
    plan = Plan(tuple(SourceNode(name) for name in sources), nodes, destinations)
    return dict(first_filters(plan, dict.fromkeys(sources, ORDERS)))


class TestAFilterIsDoneByTheSource:
    def test_where_it_is_the_first_step(self) -> None:
        assert found(node("t", ["orders"], [FILTER, SUM])) == {"orders": Compared("store", "<", 150)}
        assert found(node("t", ["orders"], [SUM, {"filter": "customer < 150"}])) == {}

    def test_where_nobody_sees_the_rows_beside_it(self) -> None:
        few, sums = node("few", ["orders"], [FILTER]), node("sums", ["orders"], [SUM])
        assert found(few, sums, takes=["few", "sums"]) == {}
        assert found(few, takes=["few", "orders"]) == {}

    def test_where_the_rows_are_those_it_changes(self) -> None:
        """And not those that are joined, though a filter stands first."""
        join = {"join": {"with": "stores", "on": ["store"], "how": "anti"}}
        both = node("t", ["orders", "stores"], [FILTER, join])
        assert found(both, sources=["orders", "stores"]) == {"orders": Compared("store", "<", 150)}

    def test_and_no_rows_are_kept(self) -> None:
        parts = (SourceNode("orders (new)", "orders"), SourceNode("orders (kept)", "orders", kept=True))
        keep = TransformNode("orders", tuple(part.name for part in parts), (), keep=("id",))
        plan = Plan(parts, (keep, node("t", ["orders"], [FILTER])), (DestinationNode(0, "t"),))
        assert first_filters(plan, dict.fromkeys(("orders (new)", "orders (kept)"), ORDERS)) == {}
