"""Conditions over one row as PostgreSQL's SQL: of its own whole numbers and truth values, where both mean the same."""

from collections.abc import Sequence

from dataaggregator.connector.conditions import All, AnyOf, Compared, Condition, IsNull, Not, Truth, columns_of
from dataaggregator_connectors.postgres.sql import quote
from dataaggregator_connectors.postgres.types import Column

TYPES = frozenset({"int2", "int4", "int8", "bool"})


def shown(condition: Condition) -> str:
    """In parentheses."""
    match condition:
        case Compared(column, by, number):
            return f"({quote(column)} {by} ({number}))"
        case Truth(column):
            return f"({quote(column)})"
        case IsNull(column):
            return f"({quote(column)} IS NULL)"
        case Not(of):
            return f"(NOT {shown(of)})"
        case All(parts):
            return f"({' AND '.join(map(shown, parts))})"
        case AnyOf(parts):
            return f"({' OR '.join(map(shown, parts))})"


def counted(condition: Condition, origin: str) -> str:
    """How many rows there are, how many of them it is not NULL of, and true of."""
    where = shown(condition)
    return f"SELECT count(*), count({where}), count(*) FILTER (WHERE {where}) FROM {origin}"


def means_the_same(condition: Condition, every: Sequence[Column]) -> bool:
    """Whether all it looks at is of types that it speaks of, and read as such."""
    plain = {one.name for one in every if one.builtin and one.given is None}
    plain &= {one.name for one in every if one.typname in TYPES}
    return plain.issuperset(columns_of(condition))
