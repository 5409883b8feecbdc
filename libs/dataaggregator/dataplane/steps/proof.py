"""proof: free SQL over one input is run with something more in its rows, by which each row that was read is accounted.

The engine's own reading of the query is changed and written again. A query that gives rows of the input has their
numbers beside it; one that groups them has a count for each group. What has neither shape is run as it is.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dataaggregator.dataplane.compile import functions
from dataaggregator.dataplane.steps.engine import Engine, Place, quote
from dataaggregator.errors import Invalid

HIDDEN = "_dataaggregator_proof"
_AGGREGATES = functions.AGGREGATES | {"count_star"}
_NUMBER = "rowid"
Tree = dict[str, Any]


@dataclass(frozen=True)
class Proof:
    """The query with `HIDDEN` as its last column: the number of a row, or where it is `grouped` the rows of a group.

    `let_in` counts the rows that a grouped query's WHERE lets in; without one all are.
    """

    sql: str
    grouped: bool
    let_in: str | None = None

    def values_of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those that `let_in` uses: the engine refuses others."""
        used = set(re.findall(r"\$(\w+)", self.let_in or ""))
        return {name: value for name, value in values.items() if name in used}


class Prover:
    """For queries over the rows that are kept in `table`, which they call `flow`."""

    def __init__(self, engine: Engine, flow: str, table: str, schema: pa.Schema) -> None:
        self._engine = engine
        self._flow = flow
        self._table = table
        self._schema = schema

    def find(self, sql: str) -> Proof | None:
        """Not bound yet: where the engine refuses it, there is none."""
        tree = deepcopy(dict(self._engine.tree(sql)))
        node = tree["statements"][0]["node"]
        if HIDDEN in sql or _NUMBER in {name.lower() for name in self._schema.names} or not self._plain(node):
            return None
        if not node["group_expressions"] and node["having"] is None and not _aggregates(node["select_list"]):
            return self._numbered(tree, node)
        return self._grouped(tree, node)

    def _plain(self, node: Tree) -> bool:
        """One SELECT, in which a column more makes no row more or less."""
        if node["type"] != "SELECT_NODE" or node["aggregate_handling"] != "STANDARD_HANDLING":
            return False
        shadowed = self._flow.lower() in {str(entry["key"]).lower() for entry in node["cte_map"]["map"]}
        return not shadowed and "DISTINCT_MODIFIER" not in {one["type"] for one in node["modifiers"]}

    def _numbered(self, tree: Tree, node: Tree) -> Proof | None:
        relation = _first(node["from_table"])
        if relation is None or not self._is_flow(relation):
            return None
        alias = self._point(relation)
        node["select_list"].append(self._column(f"{quote(alias)}.{_NUMBER}"))
        return Proof(self._engine.text(tree), grouped=False)

    def _grouped(self, tree: Tree, node: Tree) -> Proof | None:
        """Each row is in one group, or left out by the WHERE: no group is, and none is there twice."""
        relation, where = node["from_table"], node["where_clause"]
        whole = node["having"] is None and node["qualify"] is None and node["sample"] is None
        if not whole or len(node["group_sets"]) > 1 or {one["type"] for one in node["modifiers"]} - {"ORDER_MODIFIER"}:
            return None
        if not self._is_flow(relation) or relation["sample"] is not None or _volatile(where):
            return None
        self._point(relation)
        node["select_list"].append(self._column("count(*)"))
        let_in = None
        if where is not None:
            counting = deepcopy(dict(self._engine.tree("SELECT count(*)")))
            counting["statements"][0]["node"] |= {"from_table": relation, "where_clause": where}
            let_in = self._engine.text(counting)
        return Proof(self._engine.text(tree), grouped=True, let_in=let_in)

    def _is_flow(self, relation: Tree) -> bool:
        return relation["type"] == "BASE_TABLE" and str(relation["table_name"]).lower() == self._flow.lower()

    def _point(self, relation: Tree) -> str:
        """At the table itself, whose rows have numbers, under the name they go by; answers that name."""
        relation["alias"] = relation["alias"] or relation["table_name"]
        relation["table_name"], relation["qualified_name"] = self._table, {"path": [self._table]}
        return str(relation["alias"])

    def _column(self, expression: str) -> Tree:
        node = self._engine.tree(f"SELECT {expression} AS {HIDDEN}")["statements"][0]["node"]
        return dict(node["select_list"][0])


def fits(engine: Engine, query: str, values: Mapping[str, Any], found: pa.Schema, place: Place) -> bool:
    """Whether the changed query binds, to the fields of the one it was made of and a number behind them."""
    try:
        given = engine.bind(query, values, place)
    except Invalid:
        return False
    return given.names == [*found.names, HIDDEN] and given.types == [*found.types, pa.int64()]


def _first(relation: Tree) -> Tree | None:
    """The relation that stands first in a FROM of joins."""
    while relation["type"] == "JOIN":
        relation = relation["left"]
    return relation if relation["type"] == "BASE_TABLE" else None


def _parts(tree: Any) -> Iterator[Tree]:
    """All but what stands in subqueries, which are told and not looked into."""
    if isinstance(tree, list):
        for one in tree:
            yield from _parts(one)
    if isinstance(tree, dict):
        yield tree
        for value in tree.values() if tree.get("class") != "SUBQUERY" else ():
            yield from _parts(value)


def _called(part: Tree) -> str | None:
    return str(part["function_name"]).lower() if part.get("class") == "FUNCTION" else None


def _aggregates(tree: Any) -> bool:
    return any(_called(part) in _AGGREGATES for part in _parts(tree))


def _volatile(tree: Any) -> bool:
    """A condition that may be another when it is asked again; a subquery may hide one, some go without brackets."""
    for part in _parts(tree):
        word = str(part["column_names"][-1]).lower() if part.get("class") == "COLUMN_REF" else _called(part)
        if part.get("class") == "SUBQUERY" or word in functions.VOLATILE:
            return True
    return False
