"""Contracts: pydantic's errors as the platform shows them: every wrong field, by its dotted path."""

from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dataaggregator.contracts.base import NAME_PATTERN
from dataaggregator.contracts.variants import is_mark
from dataaggregator.errors import FieldError

_CODES = {"extra_forbidden": "unknown-field", "missing": "missing-field"}


def field_path(location: Sequence[int | str]) -> str:
    """`steps[0].filter` for ("steps", 0, "filter"); tags of variants are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not is_mark(part) and part != "[key]":
            path += f".{part}" if path else part
    return path


def field_errors(error: ValidationError, prefix: str = "") -> tuple[FieldError, ...]:
    """One entry a wrong field, in the order they were found; `prefix` is the path of the validated part."""
    errors = error.errors(include_url=False, include_input=False)
    places = [one["loc"] for one in errors]
    found = []
    for one in errors:
        if _only_follows(one, places):
            continue
        path = field_path(one["loc"])
        joined = f"{prefix}.{path}" if prefix and path and not path.startswith("[") else prefix + path
        code = _CODES.get(one["type"], one["type"].replace("_", "-"))
        found.append(FieldError(field=joined, message=_sentence(one), code=code))
    return tuple(found)


def _only_follows(error: ErrorDetails, places: Sequence[tuple[int | str, ...]]) -> bool:
    """Whether a list only counts as too short because its items, each named by an error of its own, are wrong."""
    place = error["loc"]
    return error["type"] == "too_short" and any(len(p) > len(place) and p[: len(place)] == place for p in places)


def _sentence(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return "unknown field"
        case "missing":
            return "this field is required"
        case "too_short":
            return f"at least {context['min_length']} needed, {context['actual_length']} given"
        case "string_pattern_mismatch" if context["pattern"] == NAME_PATTERN:
            return "a name has letters, digits, dots, dashes and underscores, and begins with none of . and -"
        case _:
            return error["msg"].removeprefix("Value error, ").removeprefix("Input ")
