"""What the engine says of an error, taken apart; and the same without a value of a row, which not everybody may see."""

import json
import re
from dataclasses import dataclass

import duckdb

CURE = "TRY_CAST and TRY give NULL instead, a cast or validate step before this one can set such rows aside"
_COLUMN = re.compile(r" when casting from source column (?P<column>.+)\Z", re.DOTALL)
_TO_TYPE = re.compile(r".*(?:' to| for the destination type| to the destination type) (?P<type>[^']+)\Z", re.DOTALL)
_OVERFLOW = re.compile(r"\AOverflow in (?P<what>[a-z ]+ of [A-Z0-9]+) \(")
_WITHOUT_VALUES = ("Division by zero", "More than one row returned by a subquery")


@dataclass(frozen=True, slots=True)
class Told:
    """`kind` is the engine's class of errors, empty where it did not say; `position` counts bytes."""

    message: str
    kind: str = ""
    position: int | None = None

    @classmethod
    def of(cls, error: duckdb.Error) -> "Told":
        """Read the JSON the engine is set to speak."""
        told = str(error)
        try:
            data = json.loads(told[told.index("{") :])
            message = str(data["exception_message"]).split("\n\tCandidate functions:", maxsplit=1)[0].strip()
            position = int(data["position"]) if "position" in data else None
            return cls(message, str(data.get("exception_type", "")), position)
        except (ValueError, KeyError):
            return cls(told)

    def without_values(self) -> str:
        """What can be said of it to who may see no row."""
        if known := next((words for words in _WITHOUT_VALUES if self.message.startswith(words)), None):
            return f"{known}; {CURE}"
        if overflow := _OVERFLOW.match(self.message):
            return f"overflow in {overflow['what']}; {CURE}"
        if self.kind != "Conversion":
            return f"the engine refuses a value ({self.kind.lower() or 'unknown error'}); {CURE}"
        column = _COLUMN.search(self.message)
        kind = _TO_TYPE.match(self.message[: column.start()] if column else self.message)
        of = f" of {column['column']}" if column else ""
        return f"a value{of} cannot be converted{' to ' + kind['type'] if kind else ''}; {CURE}"
