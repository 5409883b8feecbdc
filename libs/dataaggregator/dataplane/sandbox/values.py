"""Parameter values on the wire: JSON, with dates and times told apart from text."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any


def encode(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for a frame's header."""
    return {name: _encode(value) for name, value in values.items()}


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"timestamp": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    return value


def decode(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values from `encode`."""
    return {name: _decode(value) for name, value in values.items()}


def _decode(value: Any) -> Any:
    match value:
        case {"timestamp": str(text)}:
            return datetime.fromisoformat(text)
        case {"date": str(text)}:
            return date.fromisoformat(text)
    return value
