"""Contracts: the parameters of a pipeline: a type and, if wished, a default."""

import re
from datetime import date, datetime
from typing import Any, Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import Sent

USE = re.compile(r"\{\{\s*parameters\.([A-Za-z0-9_][A-Za-z0-9._-]*)\s*\}\}")
"""`{{ parameters.name }}`, as texts of a definition use one."""

ParameterType = Literal["string", "integer", "number", "boolean", "date", "timestamp"]


class Parameter(Sent):
    """Without a default a run must give the value."""

    type: ParameterType = "string"
    default: Any = None

    @model_validator(mode="after")
    def _default_fits(self) -> "Parameter":
        if self.default is not None and not self.fits(self.default):
            raise PydanticCustomError("parameter", f"the default is not of type {self.type}")
        return self

    def fits(self, value: Any) -> bool:
        """Whether a JSON value is one of this type; dates and times are ISO 8601 strings."""
        match self.type:
            case "string":
                return isinstance(value, str)
            case "boolean":
                return isinstance(value, bool)
            case "integer":
                return isinstance(value, int) and not isinstance(value, bool)
            case "number":
                return isinstance(value, int | float) and not isinstance(value, bool)
            case "date":
                return isinstance(value, str) and _parses(date.fromisoformat, value)
            case "timestamp":
                return isinstance(value, str) and _parses(datetime.fromisoformat, value)


def _parses(parse: Any, value: str) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True
