"""What SQL may say, judged on the engine's own reading of it: the second look, behind compile's."""

from collections.abc import Iterator, Mapping
from typing import Any

from dataaggregator.dataplane.compile import functions
from dataaggregator.dataplane.steps.engine import Engine, Place
from dataaggregator.errors import Invalid

_IN_EXPRESSIONS = functions.SCALARS | functions.OPERATORS
_IN_MEASURES = _IN_EXPRESSIONS | functions.AGGREGATES
_IN_SQL = _IN_MEASURES | functions.WINDOWS | functions.VOLATILE | functions.TABLES | {"count_star"}
_WHERE = {"SUBQUERY": "a subquery", "WINDOW": "a window function", "STAR": "a star", "POSITIONAL_REFERENCE": "#n"}
# The engine resolves these as functions when no field has the name.
_WORDS = functions.VOLATILE | {"user", "current_user", "session_user", "current_role", "current_catalog"}


def check_expression(engine: Engine, sql: str, place: Place) -> None:
    """`sql` is SELECT (expression): one row's worth, no aggregates, nothing volatile."""
    _check_parts(_select(engine, sql, place), _IN_EXPRESSIONS, place)


def check_measure(engine: Engine, sql: str, place: Place) -> frozenset[str]:
    """`sql` is SELECT (expression) with aggregates; gives all words in it that may be names of fields, casefolded."""
    tree = _select(engine, sql, place)
    _check_parts(tree, _IN_MEASURES | {"count_star"}, place)
    references = (part["column_names"] for part in _parts(tree) if part.get("class") == "COLUMN_REF")
    return frozenset(str(word).casefold() for words in references for word in words)


def _select(engine: Engine, sql: str, place: Place) -> Mapping[str, Any]:
    node = _node(engine, sql, place)
    plain = node["type"] == "SELECT_NODE" and len(node["select_list"]) == 1
    if not plain or node["from_table"]["type"] != "EMPTY" or node["where_clause"] or node["modifiers"]:
        raise place.invalid("definition-invalid", "this is more than one expression")
    return dict(node["select_list"][0])


def _node(engine: Engine, sql: str, place: Place) -> Mapping[str, Any]:
    tree = engine.tree(sql)
    if tree.get("error"):
        position = tree.get("position")
        at = int(position) if position is not None else None
        raise place.invalid("definition-invalid", str(tree.get("error_message")), at)
    if len(tree["statements"]) != 1:
        raise place.invalid("definition-invalid", "write one statement, without a semicolon")
    return dict(tree["statements"][0]["node"])


def _parts(tree: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _parts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _parts(value)


def _check_parts(tree: Mapping[str, Any], allowed: frozenset[str], place: Place) -> None:
    for part in _parts(tree):
        kind = part.get("class")
        at = part.get("query_location")
        if kind in _WHERE:
            raise place.invalid("definition-invalid", f"{_WHERE[str(kind)]} cannot stand in an expression", at)
        if kind == "FUNCTION":
            _check_function(part, allowed, place)
        if kind == "COLUMN_REF" and len(part["column_names"]) == 1 and str(part["column_names"][0]).lower() in _WORDS:
            raise _refused(str(part["column_names"][0]), place, at)


def _check_function(part: Mapping[str, Any], allowed: frozenset[str], place: Place) -> None:
    name = str(part["function_name"]).lower()
    if name not in allowed:
        raise _refused(name, place, part.get("query_location"))


def _refused(name: str, place: Place, at: int | None) -> Invalid:
    return place.invalid("definition-invalid", f"{name} may not be used here", at)


def check_query(engine: Engine, sql: str, relations: frozenset[str], place: Place) -> None:
    """`sql` is one SELECT whose relations are these, its own CTEs, and unnest, range or generate_series."""
    node = _node(engine, sql, place)
    known = {name.lower() for name in relations}
    for part in _parts(node):
        if isinstance(part.get("cte_map"), dict):
            known |= {str(entry["key"]).lower() for entry in part["cte_map"].get("map", [])}
    for part in _parts(node):
        kind = part.get("type")
        at = part.get("query_location")
        if kind == "BASE_TABLE":
            whole = [part.get("catalog_name"), part.get("schema_name")]
            if any(whole) or str(part["table_name"]).lower() not in known:
                name = ".".join(str(word) for word in (*whole, part["table_name"]) if word)
                raise place.invalid("definition-invalid", f"{name} is none of the inputs", at)
        elif kind in ("SHOW_REF", "COLUMN_DATA", "DELIM_GET"):
            raise place.invalid("definition-invalid", "this statement may only read its inputs", at)
        if part.get("class") == "FUNCTION":
            _check_function(part, _IN_SQL, place)
