"""Conditions over one row that mean the same everywhere: whole numbers compared with constants, truth values, NULL.

Each is true, false or NULL by the three-valued logic of SQL.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Comparison = Literal["=", "<>", "<", "<=", ">", ">="]


@dataclass(frozen=True)
class Compared:
    """A column of whole numbers with a constant of at most 64 bits."""

    column: str
    by: Comparison
    number: int


@dataclass(frozen=True)
class Truth:
    """A column of truth values."""

    column: str


@dataclass(frozen=True)
class IsNull:
    """A column of whole numbers or truth values; never NULL itself."""

    column: str


@dataclass(frozen=True)
class Not:
    of: "Condition"


@dataclass(frozen=True)
class All:
    """AND."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True)
class AnyOf:
    """OR."""

    parts: tuple["Condition", ...]


Condition: TypeAlias = Compared | Truth | IsNull | Not | All | AnyOf


def columns_of(condition: Condition) -> Iterator[str]:
    match condition:
        case Not(of):
            yield from columns_of(of)
        case All(parts) | AnyOf(parts):
            for part in parts:
                yield from columns_of(part)
        case Compared() | Truth() | IsNull():
            yield condition.column
