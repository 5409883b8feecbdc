"""Contracts: a length of time as people write it, such as 30s, 10m, 1h30m or 2d."""

import re
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
_WHOLE = re.compile(_PATTERN)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


#: Ten years: whatever is longer is a slip, and a moment so far off may be none that a date can hold.
LONGEST_DAYS = 3650


class Duration(str):
    """A length of time above zero; kept as it was written, `seconds` says how long it is."""

    __slots__ = ()

    @property
    def seconds(self) -> float:
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(self))

    @classmethod
    def check(cls, value: Any) -> "Duration":
        if not isinstance(value, str) or not _WHOLE.match(value):
            raise PydanticCustomError("duration", "write a length of time such as 30s, 10m, 1h30m or 2d")
        duration = cls(value)
        if not 0 < duration.seconds <= LONGEST_DAYS * _SECONDS["d"]:
            raise PydanticCustomError("duration", f"a length of time must be above zero and at most {LONGEST_DAYS}d")
        return duration

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.check, serialization=core_schema.to_string_ser_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": _PATTERN, "examples": ["30s", "10m", "2h"]}
