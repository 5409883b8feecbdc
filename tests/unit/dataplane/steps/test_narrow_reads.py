"""Whatever the steps are: with the columns alone that they need, they do what they do with all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.compile.columns import needed
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan, SourceNode, TransformNode
from dataaggregator.dataplane.sandbox.messages import Rejected
from dataaggregator.dataplane.steps.engine import Engine
from dataaggregator.dataplane.steps.node import Graph, NodeSpec
from dataaggregator.errors import Invalid

from .conftest import MASK_KEY

_STEP: TypeAdapter[Step] = TypeAdapter(Step)
_FLOW: dict[str, pa.DataType] = {
    "id": pa.int64(), "k": pa.int64(), "a": pa.int32(), "t": pa.string(), "l": pa.list_(pa.int64()),
    "s": pa.struct([pa.field("x", pa.int64()), pa.field("y", pa.string())]), "blob": pa.string(),
}  # fmt: skip
_OTHER: dict[str, pa.DataType] = {"k": pa.int64(), "town": pa.string(), "more": pa.string()}
FLOW, OTHER = pa.schema(_FLOW), pa.schema(_OTHER)
NAMES = [*FLOW.names, *FLOW.names, "town", "d", "s_x", "T"]
names, subset = st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)
condition = st.sampled_from(
    ["a > 0", "id % 2 = 0 or t is null", '"K" = 1', "length(t) > 1", "len(l) > 1", "s.x > 0", "d > 1", "town = 'b'",
     "t = 'blob'", "rows_at_hand.a > 0", "to_json(rows_at_hand) like '%1%'", "len([k for k in l if k > 1]) > 0"]
)  # fmt: skip
value = st.sampled_from(
    ["a + 1", "upper(t)", "k", "'x'", "coalesce(town, t)", "s.y", "len(l)", "to_json(rows_at_hand)"]
)
measure = st.sampled_from(["count(*)", "sum(a)", "max(t)", "min(id)", "count(distinct k)", "sum(d)", "max(blob)"])
_on_error, _on_fail = st.sampled_from(["reject", "null"]), st.sampled_from(["reject", "warn"])


def _one(kind: str, content: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return content.map(lambda made: {kind: made})


def _rule(check: Any, on_fail: str) -> list[dict[str, Any]]:
    return [{"rule": "r", "check": check, "on_fail": on_fail}]


CHECKS = st.one_of(condition, subset.map(lambda f: {"not_null": f}), names.map(lambda f: {"unique": [f]}))
STEPS = st.one_of(
    _one("select", st.lists(names, min_size=3, max_size=8, unique=True)),
    _one("drop", subset),
    _one("rename", st.dictionaries(names, st.sampled_from(["d", "u", "v"]), min_size=1, max_size=1)),
    _one(
        "cast", st.builds(lambda n, e: {n: {"type": "tinyint", "on_error": e}}, st.sampled_from(["id", "a"]), _on_error)
    ),
    _one("derive", st.dictionaries(st.sampled_from(["d", "t", "T", "blob"]), value, min_size=1, max_size=2)),
    _one("filter", condition),
    _one("validate", st.builds(_rule, CHECKS, _on_fail)),
    _one(
        "dedupe",
        st.builds(lambda k, o: {"key": k, "order_by": [f"{o} desc"]}, st.lists(names, min_size=1, max_size=1), names),
    ),
    _one("mask", st.dictionaries(names, st.sampled_from(["hash", "redact"]), min_size=1, max_size=1)),
    st.sampled_from([{"flatten": {"field": "s"}}, {"explode": {"field": "l"}}]),
    _one(
        "join",
        st.sampled_from(["inner", "left", "full", "anti"]).map(lambda how: {"with": "other", "on": ["k"], "how": how}),
    ),
    _one(
        "aggregate",
        st.builds(lambda by, m: {"by": by, "measures": {"d": m}}, st.lists(names, max_size=2, unique=True), measure),
    ),
    st.sampled_from([{"sql": "SELECT * FROM flow"}, {"sql": "SELECT k, count(*) AS d FROM flow GROUP BY k"}]),
)
ENDS = st.sampled_from(
    [{"aggregate": {"measures": {"n": "count(*)"}}}, {"aggregate": {"by": ["k"], "measures": {"n": "count(*)"}}},
     {"select": ["k"]}, {"select": ["d", "k"]}, {"select": ["id", "a", "t"]}, {"filter": "k > 0"}]
)  # fmt: skip
ROW = st.fixed_dictionaries({
    "id": st.integers(0, 99), "k": st.integers(0, 3), "a": st.integers(-200, 200),
    "t": st.one_of(st.none(), st.sampled_from(["", "b", "abc", "blob"])),
    "l": st.one_of(st.none(), st.lists(st.integers(0, 3), max_size=3)),
    "s": st.one_of(st.none(), st.fixed_dictionaries({"x": st.integers(0, 2), "y": st.just("y")})),
    "blob": st.sampled_from(["blob 1", "blob 2"]),
})  # fmt: skip


@dataclass
class Out:
    """All that leaves a graph, by node."""

    given: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refused: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    schema: pa.Schema | None = None
    counts: Any = None

    def rows(self, node: str, batch: pa.RecordBatch) -> None:
        if node == "out":
            self.given += [(node, row) for row in batch.to_pylist()]

    def rejected(self, message: Rejected) -> None:
        self.refused += [(message.stage, message.rule, row) for row in message.rows.to_pylist()]

    def passed(self, stage: str, batch: pa.RecordBatch) -> None:
        pass


def run(engine: Engine, nodes: Sequence[TransformNode], tables: Mapping[str, pa.Table]) -> Out:
    out = Out()
    specs = [NodeSpec(n.name, n.inputs, n.steps, tuple(stage for stage, _ in n.stages)) for n in nodes]
    schemas = {name: table.schema for name, table in tables.items()}
    graph = Graph(specs, schemas, engine, {}, out, mask_key=MASK_KEY)
    for name, table in tables.items():
        for batch in table.to_batches(max_chunksize=7):
            graph.push(name, batch)
        graph.finish(name)
    out.schema = graph.schemas["out"]
    out.counts = [replace(counts, batches=0, duration_ms=0) for counts in graph.counts()]
    return out


def nodes_of(first: Sequence[Any], second: Sequence[Any]) -> Iterator[TransformNode]:
    before = "flow"
    for name, steps in (("first", first), ("out", second)):
        inputs = (before, "other") if any("join" in step for step in steps) else (before,)
        given = [{"sql": step["sql"].replace("flow", before)} if "sql" in step else step for step in steps]
        yield TransformNode(name, inputs, tuple(_STEP.validate_python(step) for step in given))
        before = name


def in_any_order(rows: Sequence[Any]) -> list[str]:
    return sorted(map(repr, rows))


TABLES = st.builds(
    lambda rows, towns: {
        "flow": pa.Table.from_pylist(rows, FLOW),
        "other": pa.Table.from_pylist([{"k": k, "town": "abc"[k % 3], "more": "m"} for k in towns], OTHER),
    },
    st.lists(ROW, max_size=30),
    st.lists(st.integers(0, 4), max_size=6),
)


def told(engine: Engine, nodes: Sequence[TransformNode], tables: Mapping[str, pa.Table]) -> Any:
    """What comes of it, whatever it is."""
    try:
        out = run(engine, nodes, tables)
    except Invalid as error:
        return error.code
    return out.schema, in_any_order(out.given), in_any_order(out.refused), out.counts


@settings(max_examples=400, deadline=None)
@given(steps=st.tuples(st.lists(STEPS, min_size=1, max_size=3), st.lists(STEPS, max_size=2), ENDS), tables=TABLES)
def test_nothing_is_other_than_with_all_columns(engine: Engine, steps: Any, tables: Any) -> None:
    first, second, end = steps
    nodes = list(nodes_of(first, [*second, end]))
    used = {name: table for name, table in tables.items() if any(name in node.inputs for node in nodes)}
    plan = Plan(tuple(map(SourceNode, used)), tuple(nodes), (DestinationNode(0, "out"),))
    columns = needed(plan, {name: table.schema for name, table in used.items()})
    narrow = {name: table.select(list(columns[name])) for name, table in used.items()}
    if narrow != used:
        assert told(engine, nodes, narrow) == told(engine, nodes, used), columns
