"""Errors → RFC 9457 problems: the one place where HTTP decides by type."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, Field

from dataaggregator.catalogue import CATALOGUE, help_section, problem_type
from dataaggregator.errors import (
    Conflict,
    Denied,
    FieldError,
    Invalid,
    Malformed,
    NotFound,
    Permanent,
    PlatformError,
    RateLimited,
    Stale,
    TooLarge,
    Transient,
    Unauthenticated,
)
from dataaggregator.telemetry.redaction import mask_text

CONTENT_TYPE = "application/problem+json"

#: The nearest class in an error's ancestry decides.
STATUSES: dict[type[PlatformError], int] = {
    Malformed: 400,
    Unauthenticated: 401,
    Denied: 403,
    NotFound: 404,
    TooLarge: 413,
    Invalid: 422,
    Stale: 412,
    Conflict: 409,
    RateLimited: 429,
    Transient: 503,
    Permanent: 502,
}
#: Codes of the HTTP door itself that have a status of their own.
_BY_CODE = {"media-type-unsupported": 415, "method-not-allowed": 405}
_RETRY_AFTER_SECONDS = 5


class FieldProblem(BaseModel):
    """One wrong field."""

    field: str = Field(description="Dotted path, as in steps[0].filter.")
    message: str
    code: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="Address of the catalogue entry.")
    title: str
    status: int
    detail: str = Field(description="A sentence for the person who sees it.")
    code: str = Field(description="Stable, kebab-case.", pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    help: str = Field(description="The section of the troubleshooting guide that cures it.")
    trace_id: str
    errors: list[FieldProblem] | None = Field(None, description="Every wrong field, for bad input.")


def status_of(error: PlatformError) -> int:
    """The HTTP status of an error."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return 500


def problem(error: PlatformError, trace_id: str) -> dict[str, Any]:
    """The body of an error's answer; never a secret in an address."""
    entry = CATALOGUE.get(error.code)
    body: dict[str, Any] = {
        "type": problem_type(error.code),
        "title": entry.title if entry else error.code,
        "status": status_of(error),
        "detail": _clean(mask_text(error.detail)),
        "code": error.code,
        "help": help_section(error.code),
        "trace_id": trace_id,
    }
    if error.errors:
        body["errors"] = [
            {"field": _clean(wrong.field), "message": _clean(mask_text(wrong.message)), "code": wrong.code}
            for wrong in error.errors
        ]
    return body


def internal_error() -> PlatformError:
    """What the caller sees of a bug of ours."""
    return PlatformError("internal-error", "Something went wrong on our side; the log has it under this trace_id.")


def answer(error: PlatformError, trace_id: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The whole answer to an error, with the headers its status asks for."""
    status = status_of(error)
    response = web.Response(
        body=orjson.dumps(problem(error, trace_id)), status=status, content_type=CONTENT_TYPE, headers=headers
    )
    if status == 401:
        response.headers["WWW-Authenticate"] = f'Bearer realm="dataaggregator", error="{_bearer_error(error)}"'
    if status in (429, 503):
        seconds = error.retry_after if error.retry_after is not None else _RETRY_AFTER_SECONDS
        response.headers["Retry-After"] = str(max(1, ceil(seconds)))
    response.headers["Cache-Control"] = "no-store"
    return response


def error_from(body: Mapping[str, Any], status: int, retry_after: float | None = None) -> PlatformError:
    """The error a problem was made of, as far as the status tells it."""
    from_status = {status: kind for kind, status in STATUSES.items()}
    kind = from_status.get(status, Permanent if status >= 500 else Invalid)
    errors = [FieldError(wrong["field"], wrong["message"], wrong["code"]) for wrong in body.get("errors") or ()]
    code = str(body.get("code") or "service-unavailable")
    return kind(code, str(body.get("detail") or f"status {status}"), errors=errors, retry_after=retry_after)


def _bearer_error(error: PlatformError) -> str:
    """RFC 6750, section 3.1."""
    return "invalid_request" if error.code == "token-missing" else "invalid_token"


def _clean(text: str) -> str:
    """Text that can be written as UTF-8, whatever the caller sent."""
    return text.encode("utf-8", "replace").decode()
