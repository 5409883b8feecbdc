"""From an aiohttp request to checked input: path, query, headers, body; everything wrong is named."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin
from urllib.parse import unquote_to_bytes
from uuid import UUID

import orjson
from aiohttp import web
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ValidationError

from dataaggregator.contracts.fields import field_path
from dataaggregator.errors import FieldError, Invalid, Malformed, TooLarge
from dataaggregator.http.paging import Query
from dataaggregator.http.route import Route
from dataaggregator.http.validation import invalid_body, invalid_query

#: Ids and names in a path: no control characters, no slash, not too long.
NAME_PATTERN = r"^[^\u0000-\u001f\u007f/]{1,200}$"
#: A list of entity tags, or * (RFC 9110, 13.1.1).
IF_MATCH_PATTERN = r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$'
IDEMPOTENCY_KEY_PATTERN = r"^[!-~]{1,255}$"
_NAME = re.compile(NAME_PATTERN)
_IF_MATCH = re.compile(IF_MATCH_PATTERN)
_IDEMPOTENCY_KEY = re.compile(IDEMPOTENCY_KEY_PATTERN)
_LONG_NUMBER = re.compile(rb"\d{19}|\d[eE]\+?\d{3}")
_LARGEST, _SMALLEST = 2**64 - 1, -(2**63)
_ID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_BODY_SECONDS = 30
_JSON = ("application/json",)
_PATCH = ("application/merge-patch+json", "application/json")


def check_target(request: web.Request) -> None:
    """Raises Malformed unless path and query are UTF-8."""
    target = request.raw_path
    if "%" in target or not target.isascii():
        try:
            unquote_to_bytes(target).decode()
        except UnicodeError:
            raise Malformed("encoding-invalid", "The address is not UTF-8.") from None


def header(request: web.Request, name: str) -> str | None:
    """A header's text; raises Malformed if it is not UTF-8."""
    value = request.headers.get(name)
    if value is not None and not value.isascii():
        try:
            value.encode()
        except UnicodeError:
            raise Malformed("encoding-invalid", f"The header {name} is not UTF-8.") from None
    return value


def if_match(route: Route, request: web.Request) -> str | None:
    """If-Match where the route takes it; raises Invalid if it is not a list of entity tags."""
    value = header(request, "If-Match") if route.conditional else None
    if value is not None and not _IF_MATCH.match(value):
        raise _wrong_header("If-Match", 'should be an ETag such as "3", quotes included, or *')
    return value


def idempotency_key(route: Route, request: web.Request) -> str | None:
    """Idempotency-Key where the route takes it; raises Invalid if it is not 1 to 255 printable characters."""
    value = header(request, "Idempotency-Key") if route.idempotent else None
    if value is not None and not _IDEMPOTENCY_KEY.match(value):
        raise _wrong_header("Idempotency-Key", "should be 1 to 255 printable ASCII characters without spaces")
    return value


def own_headers(route: Route, request: web.Request) -> None:
    """Raises Invalid where one is missing that the route needs."""
    for name in route.headers:
        if not header(request, name):
            raise _wrong_header(name, "is missing")


def _wrong_header(name: str, message: str) -> Invalid:
    return Invalid("header-invalid", f"The header {name} {message}.", errors=[FieldError(name, message, "header")])


def path_of(route: Route, request: web.Request) -> Mapping[str, str]:
    """The path parameters, each an id or a name as the route declares; ids in their canonical form."""
    if not route.parameters:
        return {}
    found: dict[str, str] = {}
    errors = []
    for name, kind in route.parameters.items():
        value = request.match_info[name]
        if kind == "id" and not _ID.match(value):
            errors.append(FieldError(name, f"should be an id such as {_EXAMPLE}", "id"))
        elif not _NAME.match(value):
            errors.append(FieldError(name, "should be an id or a name of at most 200 printable characters", "name"))
        found[name] = str(UUID(value)) if kind == "id" and _ID.match(value) else value
    if errors:
        told = "; ".join(f"{error.field}: {error.message}" for error in errors)
        raise Invalid("path-invalid", f"The address is wrong: {told}.", errors=errors)
    return found


_EXAMPLE = "01890a5d-ac96-774b-bcce-b302099a8057"


class QueryReader:
    """The query of one route."""

    def __init__(self, model: type[BaseModel] | None) -> None:
        self._model = model or Query
        fields = self._model.model_fields
        self._lists = {field.alias or name for name, field in fields.items() if _takes_list(field.annotation)}
        required = any(field.is_required() for field in fields.values())
        self._default = None if required else self._model()

    def read(self, request: web.Request) -> BaseModel:
        """The query as its model; raises Invalid naming every wrong parameter."""
        if self._default is not None and not request.query_string:
            return self._default
        given: dict[str, Any] = {}
        errors = []
        for name in dict.fromkeys(request.query):
            values = request.query.getall(name)
            if any("\x00" in value for value in (name, *values)):
                errors.append(FieldError(name.replace("\x00", ""), "should not hold a NUL character", "nul"))
            elif name in self._lists:
                given[name] = values
            elif len(values) > 1:
                errors.append(FieldError(name, "should be given once only", "repeated"))
            else:
                given[name] = values[0]
        if errors:
            raise Invalid("query-invalid", f"{errors[0].field}: {errors[0].message}.", errors=errors)
        try:
            return self._model.model_validate(given)
        except ValidationError as error:
            raise invalid_query(error) from None


def _takes_list(annotation: object) -> bool:
    return any(get_origin(one) in (list, tuple) for one in (annotation, *get_args(annotation)))


async def read_body(route: Route, request: web.Request) -> bytes:
    """The raw body within the route's limit; raises TooLarge, Malformed, or Invalid for another kind of body."""
    limit = route.max_body_bytes
    announced = request.content_length
    if announced is not None and announced > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise Malformed("body-incomplete", f"The body did not arrive within {_BODY_SECONDS} seconds.") from None
    except (HttpProcessingError, ClientPayloadError, web.RequestPayloadError):
        raise Malformed(
            "body-incomplete", "The body cannot be read: cut off, or not in its Content-Encoding."
        ) from None
    if body:
        _check_kind(route, request)
    return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge("body-too-large", f"The body may have at most {limit} bytes here.")


def _check_kind(route: Route, request: web.Request) -> None:
    """JSON only; a body that does not say what it is counts as JSON."""
    given = request.headers.get("Content-Type")
    kinds = _PATCH if route.merge_patch else _JSON
    if given is not None and given.partition(";")[0].strip().lower() not in kinds:
        shown = given[:100].encode("ascii", "replace").decode()
        raise Invalid("media-type-unsupported", f"The body is {shown}, it should be {kinds[0]}.")


def parse_body(route: Route, raw: bytes) -> Any:
    """The body as the route's model, or as a plain object for a merge patch; raises Malformed or Invalid."""
    if not raw:
        if not route.body_optional:
            raise Malformed("json-malformed", "The body is empty, it should be a JSON object.")
        raw = b"{}"
    if _LONG_NUMBER.search(raw):
        _refuse_huge(raw)
    if route.merge_patch:
        return _parse_patch(raw)
    if b"\\u0000" in raw:
        _refuse_nul(_loads(raw))
    if b"NaN" in raw or b"Infinity" in raw:
        _loads(raw)  # pydantic would take the words for numbers; JSON has none of them
    model = route.body
    if model is None:
        return None
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise invalid_body(error) from None


def _parse_patch(raw: bytes) -> dict[str, Any]:
    patch = _loads(raw)
    if not isinstance(patch, dict):
        wrong = FieldError("", "should be an object with the fields to change", "object")
        raise Invalid("body-invalid", "A merge patch is an object with the fields to change.", errors=[wrong])
    if b"\\u0000" in raw:
        _refuse_nul(patch)
    return patch


def _loads(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Malformed("json-malformed", f"The body is not JSON: {error}.") from None


def _refuse_nul(document: Any) -> None:
    """No text with a NUL character: PostgreSQL cannot hold one."""
    _refuse(_places(document, _has_nul, ()), "should not hold a NUL character", "nul")


def _refuse_huge(raw: bytes) -> None:
    """No number that would be changed or refused on its way on."""
    _loads(raw)  # says so of one that no double can hold
    document = json.loads(raw, parse_int=_whole)
    _refuse(_places(document, _is_huge, ()), "should be a number of at most 64 bits", "number")


def _whole(digits: str) -> int:
    """The number, or where it is longer than any of 64 bits one that is too large as well."""
    return int(digits[:21])


def _refuse(places: Sequence[tuple[str | int, ...]], should: str, code: str) -> None:
    errors = [FieldError(field_path(place), should, code) for place in places]
    if errors:
        raise Invalid("body-invalid", f"{errors[0].field}: {errors[0].message}.", errors=errors)


def _has_nul(value: Any) -> bool:
    return isinstance(value, str) and "\x00" in value


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and not _SMALLEST <= value <= _LARGEST


def _places(value: Any, wrong: Callable[[Any], bool], place: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
    """Where a document holds what is wrong, in a value or in a name."""
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in _places(item, wrong, (*place, index))]
    if not isinstance(value, dict):
        return [place] if wrong(value) else []
    found = [place for name in value if wrong(name)]
    within = ((name.replace("\x00", ""), item) for name, item in value.items())
    return found + [one for name, item in within for one in _places(item, wrong, (*place, name))]
