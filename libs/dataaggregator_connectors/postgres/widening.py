"""How a field differs from its column, and the type that holds what both hold, without loss."""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from dataaggregator.connector.differences import Difference
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.errors import Invalid
from dataaggregator_connectors.postgres.fit import declared_type, fits, origin_type
from dataaggregator_connectors.postgres.types import Column

Field: TypeAlias = "pa.Field[Any]"
DECLARATION = re.compile(
    r"(?P<name>[a-z ]+?)(?:\((?P<first>\d+)(?:,(?P<second>-?\d+))?\))?(?P<rest> with(?:out)? time zone)?"
)
WHOLE = {"smallint": 5, "integer": 10, "bigint": 19}
"""With the digits of the largest value."""
EXACT_IN_DOUBLE = ("smallint", "integer", "real")
MOST_DIGITS = 1_000


@dataclass(frozen=True)
class Declared:
    """A type as PostgreSQL writes it: `first` and `second` are what stands in its brackets."""

    name: str
    first: int | None
    second: int | None

    @property
    def scale(self) -> int:
        return self.second or 0

    @property
    def whole(self) -> int:
        """The digits a numeric has before its point."""
        return (self.first or 0) - self.scale


def difference_of(field: Field, column: Column) -> Difference | None:
    """None where the column takes the field; also where only a value could show that it does not, and nothing is known
    of where the rows come from."""
    why = None
    try:
        fits(field, column)
    except Invalid as error:
        why = error.errors[0].message
    origin = origin_type(field)
    wider = wider_type(column, origin or _declared(field)) if why is not None or origin is not None else None
    if why is None and wider is None:
        return None
    told = SchemaDifference(
        kind="changed", field=column.name, before=column.declared, after=wider or origin or str(field.type)
    )
    return Difference(
        told,
        why or f"{origin} is wider than {column.declared}",
        possible=wider is not None,
        harmless=why is None,
        held=_held(column),
    )


def _declared(field: Field) -> str:
    try:
        return declared_type(field)
    except Invalid:
        return ""


def _held(column: Column) -> pa.DataType | None:
    """As which the column's own values can be written; None where it takes none of ours."""
    try:
        fits(pa.field(column.name, column.arrow), column)
    except Invalid:
        return None
    return column.arrow


def wider_type(column: Column, given: str) -> str | None:
    """The type that holds all values of the column and of `given`; None where there is none, or it is the column's."""
    held, other = _parsed(column.declared), _parsed(given)
    if held is None or other is None or not column.builtin or column.element is not None:
        return None
    return _wider_number(held, other) or _wider_text(held, other) or _wider_time(held, other)


def _parsed(declared: str) -> Declared | None:
    found = DECLARATION.fullmatch(declared)
    if found is None:
        return None
    first, second = (None if part is None else int(part) for part in (found["first"], found["second"]))
    return Declared(found["name"] + (found["rest"] or ""), first, second)


def _wider_number(held: Declared, other: Declared) -> str | None:
    if held.name in WHOLE and other.name in WHOLE:
        return other.name if WHOLE[other.name] > WHOLE[held.name] else None
    if held.name in WHOLE and other.name == "numeric":
        return _numeric(Declared("numeric", WHOLE[held.name], 0), other)
    if held.name == "numeric" and other.name == "numeric":
        return None if held.first is None else _numeric(held, other)
    if held.name in EXACT_IN_DOUBLE and other.name in (*EXACT_IN_DOUBLE, "double precision"):
        return None if held.name == "real" and other.name in ("smallint", "real") else "double precision"
    return None


def _numeric(held: Declared, other: Declared) -> str | None:
    """The digits of both before the point and behind it."""
    if other.first is None:
        return "numeric"
    scale, whole = max(held.scale, other.scale), max(held.whole, other.whole)
    if (scale, whole) == (held.scale, held.whole):
        return None
    return f"numeric({whole + scale},{scale})" if whole + scale <= MOST_DIGITS else "numeric"


def _wider_text(held: Declared, other: Declared) -> str | None:
    if held.name != "character varying" or held.first is None:
        return None
    if other.name == "text" or (other.name == held.name and other.first is None):
        return "text"
    if other.name == held.name and other.first is not None and other.first > held.first:
        return f"character varying({other.first})"
    return None


def _wider_time(held: Declared, other: Declared) -> str | None:
    """More digits of a second; a date becomes the midnight that it is."""
    if held.name == "date" and other.name in ("timestamp", "timestamp without time zone"):
        return "timestamp without time zone"
    longer = held.first is not None and (other.first is None or other.first > held.first)
    if not held.name.startswith("time") or other.name != held.name or not longer:
        return None
    kind, _, zone = held.name.partition(" ")
    return f"{kind}{'' if other.first is None else f'({other.first})'} {zone}"
