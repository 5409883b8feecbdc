"""Parameters of a query: settings of the session, read back as values of their types and never a part of the SQL."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from dataaggregator.contracts.parameters import USE
from dataaggregator.errors import Invalid

SETTING = "dataaggregator.parameter_"
_HIGHEST = 2**63


def bound(query: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The query with a value in place of each use, its lines as they were written, and the settings with the values.

    Raises Invalid for a use that has no value, and for a text that PostgreSQL cannot hold.
    """
    names: list[str] = []

    def place(use: re.Match[str]) -> str:
        name = use.group(1)
        if name not in parameters:
            detail = f"The query uses the parameter {name}, which only a pipeline that has it can run."
            raise Invalid("parameters-invalid", detail)
        if name not in names:
            names.append(name)
        return f"(current_setting('{SETTING}{names.index(name)}')::{_type(parameters[name])})"

    sql = USE.sub(place, query)
    return sql, {f"{SETTING}{at}": _text(name, parameters[name]) for at, name in enumerate(names)}


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "bigint" if -_HIGHEST <= value < _HIGHEST else "numeric"
    if isinstance(value, float):
        return "double precision"
    if isinstance(value, datetime):
        return "timestamp" if value.tzinfo is None else "timestamptz"
    return "date" if isinstance(value, date) else "text"


def _text(name: str, value: Any) -> str:
    text = value.isoformat() if isinstance(value, date) else str(value)
    if "\0" in text:
        raise Invalid("parameters-invalid", f"The parameter {name} has a character 0, which PostgreSQL cannot hold.")
    return text
