"""For tests: does an answer (or a request) keep what the document promises? Needs jsonschema, of the dev group."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import orjson
from jsonschema import Draft202012Validator, FormatChecker

_PARAMETER = re.compile(r"\\\{[a-z_]+\\\}")


def validate_answer(
    document: Mapping[str, Any],
    method: str,
    path: str,
    status: int,
    body: bytes | object,
    *,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Raises AssertionError unless the document declares this answer of this operation, body and headers included.

    ``path`` is the one called, without query; ``body`` raw bytes or parsed JSON. What the document does not have at
    all (an unknown path, another method) must be answered by a 404 or 405 problem.
    """
    named = f"{method} {path} -> {status}"
    operation = operation_of(document, method, path)
    if operation is None:
        assert status in (404, 405), f"{named}: not in the document"
        _check(document, {"$ref": "#/components/schemas/Problem"}, _json(body), named)
        return
    declared = operation["responses"].get(str(status))
    assert declared is not None, f"{named}: the status is not declared"
    answer = _followed(document, declared)
    for name, header in answer.get("headers", {}).items():
        missing = headers is not None and name not in headers
        assert not (missing and header.get("required")), f"{named}: the header {name} is missing"
    content = answer.get("content")
    if method == "HEAD":
        return
    if content is None:
        assert body in (b"", None), f"{named}: a body where none is declared"
        return
    kind = _kind(content, headers, named)
    if kind.endswith(("/json", "+json")):
        _check(document, content[kind]["schema"], _json(body), named)


def validate_request(document: Mapping[str, Any], method: str, path: str, body: object) -> None:
    """Raises AssertionError unless the document allows this JSON body for this operation."""
    operation = operation_of(document, method, path)
    assert operation is not None, f"{method} {path}: not in the document"
    declared = operation.get("requestBody")
    assert declared is not None, f"{method} {path}: takes no body"
    schema = next(iter(declared["content"].values()))["schema"]
    _check(document, schema, body, f"{method} {path}")


def operation_of(document: Mapping[str, Any], method: str, path: str) -> Mapping[str, Any] | None:
    """The operation that a call of ``path`` means, or None; literal paths before those with parameters."""
    wanted = "get" if method == "HEAD" else method.lower()
    for template in sorted(document["paths"], key=lambda known: known.count("{")):
        if _pattern(template).fullmatch(unquote(path)):
            found: Mapping[str, Any] | None = document["paths"][template].get(wanted)
            return found
    return None


@lru_cache(maxsize=1000)
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub("[^/]+", re.escape(template)))


def _followed(document: Mapping[str, Any], declared: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in declared:
        return declared
    found: Any = document
    for part in declared["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _kind(content: Mapping[str, Any], headers: Mapping[str, str] | None, named: str) -> str:
    """The declared media type that the answer has."""
    if headers is None:
        return next(iter(content))
    given = headers.get("Content-Type", "").partition(";")[0].strip()
    assert given in content, f"{named}: the body is {given or 'of no kind'}, declared is {', '.join(content)}"
    return given


def _json(body: bytes | object) -> Any:
    return orjson.loads(body) if isinstance(body, bytes) else body


def _check(document: Mapping[str, Any], schema: Mapping[str, Any], value: Any, named: str) -> None:
    whole = {**schema, "components": document["components"]}
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    wrong = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]
    assert not wrong, f"{named}: " + "; ".join(wrong)
