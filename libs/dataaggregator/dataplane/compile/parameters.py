"""Parameters in expressions: `{{ parameters.x }}` becomes a bound value, never pasted text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from dataaggregator.contracts.parameters import USE, Parameter
from dataaggregator.errors import FieldError, Invalid


@dataclass(frozen=True, slots=True)
class Bound:
    """SQL with `$p0_0`, … in place of the uses, padded so that lines and columns stay; `names` in order."""

    sql: str
    names: tuple[str, ...]
    place: str

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What to bind, by the names the SQL uses; raises Invalid where a transformation is tried by itself."""
        if lacking := [name for name in self.names if name not in parameters]:
            detail = (
                f"This uses the parameter {lacking[0]}, which only a pipeline has: try it out in a pipeline's plan."
            )
            raise Invalid("parameters-invalid", detail)
        return {f"{self.place}{at}": parameters[name] for at, name in enumerate(self.names)}


def bind(text: str, at: int = 0) -> Bound:
    """Replace each use of a parameter; `at` keeps several texts of one statement apart."""
    prefix = f"p{at}_"
    names: list[str] = []

    def place(use: re.Match[str]) -> str:
        name = use.group(1)
        if name not in names:
            names.append(name)
        return f"${prefix}{names.index(name)}".ljust(len(use.group(0)))

    return Bound(USE.sub(place, text), tuple(names), prefix)


def no_parameter(name: str, declared: Mapping[str, Parameter]) -> str:
    """What is wrong with the use of one that is not there."""
    return f"the pipeline has no parameter {name}; it has: {', '.join(declared) or 'none'}"


def parameter_values(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run, dates and times as such; raises Invalid naming every wrong one."""
    errors = [
        FieldError(f"parameters.{name}", "the pipeline has no such parameter", "unknown-field")
        for name in given
        if name not in declared
    ]
    values: dict[str, Any] = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.default)
        if value is None and name not in given:
            errors.append(FieldError(f"parameters.{name}", "this parameter has no default: give it", "missing-field"))
        elif not parameter.fits(value):
            errors.append(FieldError(f"parameters.{name}", f"this is not a {parameter.type}", "parameter"))
        else:
            values[name] = _typed(parameter, value)
    if errors:
        raise Invalid("parameters-invalid", "the parameters do not fit this pipeline", errors=errors)
    return values


def _typed(parameter: Parameter, value: Any) -> Any:
    match parameter.type:
        case "date":
            return date.fromisoformat(value)
        case "timestamp":
            return datetime.fromisoformat(value)
        case "number":
            return float(value)
    return value
