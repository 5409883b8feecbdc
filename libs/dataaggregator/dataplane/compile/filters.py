"""Filters that a source may do itself: the first step behind it, of an allow-listed syntax tree.

What is not on the list is left to the engine: another function, another type, a parameter, a cast, a fraction.
"""

from collections.abc import Callable, Mapping

import pyarrow as pa
from sqlglot import exp

from dataaggregator.connector.conditions import All, AnyOf, Compared, Comparison, Condition, IsNull, Not, Truth
from dataaggregator.contracts.steps import FilterStep
from dataaggregator.dataplane.compile.expressions import check_expression
from dataaggregator.dataplane.compile.plan import Plan, TransformNode
from dataaggregator.dataplane.compile.texts import WrongSqlError

MOST = 2**63 - 1
_COMPARISONS: Mapping[type[exp.Expr], Comparison] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_TURNED: Mapping[Comparison, Comparison] = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def first_filters(plan: Plan, schemas: Mapping[str, pa.Schema]) -> Mapping[str, Condition]:
    """By source node, the condition of a filter that is the first to see its rows, if nobody sees them beside it and it
    means the same everywhere."""
    found = {}
    for source in plan.sources:
        node = _only_taker(plan, source.name)
        step = node.steps[0] if node is not None and node.steps else None
        if node is not None and isinstance(step, FilterStep):
            condition = condition_of(step.filter, schemas[source.name])
            if condition is not None:
                found[source.name] = condition
    return found


def _only_taker(plan: Plan, name: str) -> TransformNode | None:
    takers = [node for node in plan.transforms if name in node.inputs]
    if len(takers) != 1 or takers[0].inputs.index(name) or any(one.input == name for one in plan.destinations):
        return None
    return takers[0]


def condition_of(text: str, schema: pa.Schema) -> Condition | None:
    """None for what is not on the list."""
    try:
        return _Reading(schema).condition(check_expression(text).tree)
    except (WrongSqlError, _OtherError):
        return None


class _OtherError(Exception):
    """Something that is not on the list."""


class _Reading:
    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def condition(self, node: exp.Expr) -> Condition:
        match node:
            case exp.Paren():
                return self.condition(_plain(node, "this").this)
            case exp.Not():
                return Not(self.condition(_plain(node, "this").this))
            case exp.And():
                return All((self.condition(node.left), self.condition(node.right)))
            case exp.Or():
                return AnyOf((self.condition(node.left), self.condition(node.right)))
            case exp.Column():
                return Truth(self._column(node, pa.types.is_boolean))
            case exp.Is():
                if not isinstance(node.expression, exp.Null):
                    raise _OtherError
                return IsNull(self._column(node.this, _whole_or_truth))
            case exp.In():
                _plain(node, "this", "expressions")
                column = self._column(node.this, _whole)
                return AnyOf(tuple(Compared(column, "=", _number(one)) for one in node.expressions))
            case exp.Between():
                _plain(node, "this", "low", "high")
                column = self._column(node.this, _whole)
                low, high = _number(node.args["low"]), _number(node.args["high"])
                return All((Compared(column, ">=", low), Compared(column, "<=", high)))
        return self._compared(node)

    def _compared(self, node: exp.Expr) -> Condition:
        by = _COMPARISONS.get(type(node))
        if by is None:
            raise _OtherError
        if isinstance(node.this, exp.Column):
            return Compared(self._column(node.this, _whole), by, _number(node.expression))
        return Compared(self._column(node.expression, _whole), _TURNED[by], _number(node.this))

    def _column(self, node: exp.Expr, fits: Callable[[pa.DataType], bool]) -> str:
        if not isinstance(node, exp.Column) or not isinstance(_plain(node, "this").this, exp.Identifier):
            raise _OtherError
        named = [one for one in self._schema if one.name.casefold() == node.name.casefold()]
        if len(named) != 1 or not fits(named[0].type):
            raise _OtherError
        return str(named[0].name)


def _whole(kind: pa.DataType) -> bool:
    return pa.types.is_signed_integer(kind)


def _whole_or_truth(kind: pa.DataType) -> bool:
    return _whole(kind) or pa.types.is_boolean(kind)


def _number(node: exp.Expr) -> int:
    sign = -1 if isinstance(node, exp.Neg) else 1
    literal = node.this if isinstance(node, exp.Neg) else node
    if not isinstance(literal, exp.Literal) or literal.is_string or not str(literal.this).isdecimal():
        raise _OtherError
    number = int(literal.this)
    if number > MOST:
        raise _OtherError
    return sign * number


def _plain(node: exp.Expr, *parts: str) -> exp.Expr:
    """The node, if there is nothing else in it."""
    if {name for name, value in node.args.items() if value} - set(parts):
        raise _OtherError
    return node
