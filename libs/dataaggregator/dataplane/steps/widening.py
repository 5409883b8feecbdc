"""Whole numbers of 128 bits, which sums give and Arrow does not know, as decimals of 38 digits; more fail loudly."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from dataaggregator.dataplane.steps import types
from dataaggregator.dataplane.steps.engine import Engine, Place

_WIDE = ("hugeint", "uhugeint")


def widened(
    engine: Engine, expression: str, tail: str, values: Mapping[str, Any], place: Place
) -> tuple[str, pa.DataType]:
    """An expression and its Arrow type; `tail` is the rest of the statement it stands in."""
    kind = engine.bind(f"SELECT {expression} AS x{tail}", values, place).field(0).type
    if isinstance(kind, pa.OpaqueType) and kind.type_name in _WIDE:
        return f"CAST({expression} AS DECIMAL(38,0))", pa.decimal128(38, 0)
    settled = types.settled(kind)
    if not types.taken(settled) and not pa.types.is_interval(settled):
        raise place.invalid("type-unsupported", f"this gives {kind}, which no destination can take; cast it")
    return expression, settled


def opening(statement: str) -> str:
    """What stands before the user's text, on lines of its own, in a statement with what `widened` gave."""
    return statement[: statement.index("(\n") + 2]
