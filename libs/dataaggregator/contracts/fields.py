"""Contracts: pydantic's errors as the platform shows them: every wrong field, by its dotted path."""

from collections.abc import Sequence

from pydantic import ValidationError

from dataaggregator.contracts.variants import is_mark
from dataaggregator.errors import FieldError

_SENTENCES = {
    "extra_forbidden": "unknown field",
    "missing": "this field is required",
}
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
    found = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        path = field_path(one["loc"])
        joined = f"{prefix}.{path}" if prefix and path and not path.startswith("[") else prefix + path
        message = _SENTENCES.get(one["type"], one["msg"].removeprefix("Value error, "))
        code = _CODES.get(one["type"], one["type"].replace("_", "-"))
        found.append(FieldError(field=joined, message=message, code=code))
    return tuple(found)
