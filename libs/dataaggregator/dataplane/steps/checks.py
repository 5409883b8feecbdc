"""The checks of a rule that need no SQL of the user's, as conditions; NULL passes all of them but not_null.

Values are compared in the field's own type and exactly: a bound between two values that a field can have moves to the
next of them, it is never rounded, and no whole number takes the way over a double.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from dataaggregator.contracts.steps import Check
from dataaggregator.dataplane.steps.base import Setting
from dataaggregator.dataplane.steps.engine import ROWS, Place, quote
from dataaggregator.dataplane.steps.names import position

_DIGITS = 38
_EXACT = Context(prec=1000)
Value = str | int | float | bool


class Checks:
    """Conditions in one statement: `sql` gives one column for each check that was added, `values` are bound in it."""

    def __init__(self, setting: Setting, schema: pa.Schema) -> None:
        self._setting = setting
        self._schema = schema
        self._types: Mapping[str, str] = setting.engine.types_of(schema)
        self._conditions: list[str] = []
        self.values: dict[str, Any] = {}

    @property
    def sql(self) -> str:
        """The statement over the rows at hand, or nothing when there is no condition."""
        return f"SELECT {', '.join(self._conditions)} FROM {ROWS}" if self._conditions else ""

    def add(self, check: Check, place: Place) -> None:
        """One more condition; raises Invalid at `place` for what the field's type cannot be compared with."""
        before = len(self.values)
        condition = f"({self._condition(check, place)}) AS k{len(self._conditions)}"
        with self._setting.engine.over(self._schema):
            self._setting.engine.bind(
                f"SELECT {condition} FROM {ROWS}", dict(list(self.values.items())[before:]), place
            )
        self._conditions.append(condition)

    def _condition(self, check: Check, place: Place) -> str:
        if check.not_null is not None:
            return " AND ".join(f"{quote(name)} IS NOT NULL" for name in check.not_null)
        if check.in_ is not None:
            field, kind = self._field(check.in_.field)
            if pa.types.is_null(kind):
                return "true"
            found = [self._operand(value, check.in_.field, "in", place) for value in check.in_.values]
            values = [value for value in found if value is not None]
            return f"{field} IS NULL OR {field} IN ({', '.join(values)})" if values else f"{field} IS NULL"
        if check.range is not None:
            field, kind = self._field(check.range.field)
            if pa.types.is_null(kind):
                return "true"
            # The engine puts NaN above all numbers; it lies between none.
            sides = [f"NOT isnan({field})"] if pa.types.is_floating(_plain(kind)) else []
            for side, sign, end in (("min", ">=", check.range.min), ("max", "<=", check.range.max)):
                if end is not None:
                    operand = self._operand(end, check.range.field, side, place)
                    sides.append("false" if operand is None else f"{field} {sign} {operand}")
            return f"{field} IS NULL OR ({' AND '.join(sides)})"
        if check.regex is not None:
            field, _ = self._field(check.regex.field)
            return f"{field} IS NULL OR regexp_full_match(CAST({field} AS VARCHAR), {self._bound(check.regex.pattern)})"
        raise AssertionError("this check is none that looks at one row by itself")

    def _field(self, name: str) -> tuple[str, pa.DataType]:
        return quote(name), self._schema.field(position(self._schema, name)).type

    def _bound(self, value: Any) -> str:
        self.values[name := f"c{len(self.values)}"] = value
        return f"${name}"

    def _operand(self, value: Value, name: str, side: str, place: Place) -> str | None:
        """SQL for a value beside a field; None where no value of the field can be on its right side."""
        kind = _plain(self._field(name)[1])
        exact = pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        right, fits = "text", isinstance(value, str)
        if exact or pa.types.is_floating(kind):
            right, fits = "a number", not isinstance(value, bool)
        elif pa.types.is_boolean(kind):
            right, fits = "true or false", isinstance(value, str | bool)
        if not fits:
            message = f"{name} is {kind}, which cannot be compared with {value!r}; write it as {right}"
            raise place.invalid("definition-invalid", message)
        if exact:
            return self._number(value, kind, side, name, place)
        target = self._types[name]
        if target == "VARCHAR":
            return self._bound(value)
        self._setting.engine.constant(f"CAST($x AS {target})", {"x": value}, place)  # wrong values fail here
        return f"CAST({self._bound(value)} AS {target})"

    def _number(self, value: Value, kind: pa.DataType, side: str, name: str, place: Place) -> str | None:
        try:
            number = Decimal(str(value).strip())
            if number.is_nan():
                raise InvalidOperation
        except InvalidOperation as error:
            message = f"{name} is {kind}, and {value!r} is no number"
            raise place.invalid("definition-invalid", message) from error
        step = Decimal(1).scaleb(-kind.scale if pa.types.is_decimal(kind) else 0)
        limit = (Decimal(10) ** _DIGITS - 1) * step
        if number.is_finite():
            near = number.quantize(step, ROUND_FLOOR if side == "max" else ROUND_CEILING, context=_EXACT)
            if side == "in" and near != number:
                return None
            number = near
        if abs(number) > limit:
            passes_all = side != "in" and (number > 0) == (side == "max")
            return self._bound_decimal(limit if number > 0 else -limit, step) if passes_all else None
        return self._bound_decimal(number, step)

    def _bound_decimal(self, number: Decimal, step: Decimal) -> str:
        """As text: a Decimal would be bound with digits of its own."""
        if step == 1 and abs(number) < 2**63:
            return self._bound(int(number))
        return f"CAST({self._bound(str(number))} AS DECIMAL({_DIGITS},{-int(step.as_tuple().exponent)}))"


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if isinstance(kind, pa.DictionaryType) else kind
