"""Pydantic's findings → our errors: every wrong field by its path, in plain words."""

from collections.abc import Sequence

from pydantic import ValidationError

from dataaggregator.contracts import fields
from dataaggregator.errors import FieldError, Invalid, Malformed

#: How many wrong fields are named at most.
_NAMED = 100


def field_errors(error: ValidationError) -> tuple[FieldError, ...]:
    """One FieldError for each finding."""
    return fields.field_errors(error)[:_NAMED]


def invalid_body(error: ValidationError) -> Invalid:
    """422 with every wrong field of a body, or 400 if it is not JSON at all."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Malformed("json-malformed", f"The body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}.")
    errors = field_errors(error)
    return Invalid("body-invalid", _sentence(errors, "body"), errors=errors)


def invalid_query(error: ValidationError) -> Invalid:
    """422 with every wrong query parameter."""
    errors = field_errors(error)
    return Invalid("query-invalid", _sentence(errors, "query"), errors=errors)


def _sentence(errors: Sequence[FieldError], part: str) -> str:
    """The first findings in one sentence, for who reads only the detail."""
    told = "; ".join(f"{error.field or f'the {part}'}: {error.message}" for error in errors[:3])
    more = len(errors) - 3
    return f"{told}{f'; and {more} more' if more > 0 else ''}."
