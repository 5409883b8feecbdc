"""The OpenAPI 3.1 document of a set of routes: what they take, and every answer they may give."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from dataaggregator.http import cookies
from dataaggregator.http.links import add_links
from dataaggregator.http.parse import IDEMPOTENCY_KEY_PATTERN, IF_MATCH_PATTERN, NAME_PATTERN
from dataaggregator.http.problems import CONTENT_TYPE, Problem
from dataaggregator.http.route import Route

TITLE = "Data Aggregator Platform"
_REF = "#/components/schemas/{model}"
_NO_NUL = "^[^\\u0000]*$"
_SLUG = re.compile(r"[^a-zA-Z0-9]+")

_PROBLEMS: dict[int, str] = {
    400: "Not readable: malformed JSON, or not UTF-8.",
    401: "No token, or not a valid one.",
    403: "Known, but may not.",
    404: "Not there, or not yours.",
    405: "Not with this method.",
    409: "Not possible in the present state, or the same Idempotency-Key is in flight.",
    412: "If-Match names another version than the present one.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "Wrong fields, all of them named.",
    429: "Too many requests.",
    500: "An error of ours.",
    502: "Another system refused.",
    503: "Something we need does not answer now.",
}
_HEADERS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 1}),
    "RateLimit-Limit": ("Calls in a window.", {"type": "integer"}),
    "RateLimit-Remaining": ("Calls left.", {"type": "integer"}),
    "RateLimit-Reset": ("Seconds until all are there again.", {"type": "integer"}),
    "WWW-Authenticate": ("How to log in.", {"type": "string"}),
    "ETag": ("The version, for If-Match.", {"type": "string"}),
    "Location": ("Where what was made is, or where to go on.", {"type": "string"}),
}
_ALWAYS = frozenset({"Retry-After", "WWW-Authenticate"})
_PROBLEM_HEADERS: dict[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
    503: ("Retry-After",),
}

_WAYS_IN: dict[str, dict[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of a login.",
    },
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "da_…",
        "description": "An API key, which lets do what its scopes and its owner's role hold.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": f"{cookies.PREFIX}{cookies.SESSION}",
        "description": "The cookie of a login with `?session=cookie`. It has no prefix where the gateway is called by "
        "plain HTTP on this machine.",
    },
    "csrfToken": {
        "type": "apiKey",
        "in": "header",
        "name": cookies.CSRF_HEADER,
        "description": "The `csrf_token` of that login, without which a cookie changes nothing.",
    },
}


def document(routes: Sequence[Route], title: str, *, internal: bool = False) -> dict[str, Any]:
    """The document of the public routes, or with ``internal`` of all of them."""
    shown = [route for route in routes if internal or not route.internal]
    schemas = _Schemas(shown)
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("dataaggregator")},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {_problem_name(status): _problem(status) for status in _PROBLEMS},
            "securitySchemes": _WAYS_IN,
        },
        "tags": [{"name": tag} for tag in sorted({route.tag for route in shown})],
    }


class _Schemas:
    """The models of all routes as components, each under a name of its own."""

    def __init__(self, routes: Sequence[Route]) -> None:
        wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Problem, "serialization"): None}
        for route in routes:
            for model in (route.body, route.query):
                if model is not None:
                    wanted[(model, "validation")] = None
            for model in route.answers.values():
                if model is not None:
                    wanted[(model, "serialization")] = None
        self._refs, definitions = models_json_schema(list(wanted), ref_template=_REF, schema_generator=_Generator)
        self.components: dict[str, Any] = definitions.get("$defs", {})
        for component in self.components.values():
            _refuse_nul(component)

    def ref(self, model: type[BaseModel], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
        """The reference to a model's component."""
        return dict(self._refs[(model, mode)])

    def resolved(self, model: type[BaseModel]) -> dict[str, Any]:
        """A model's own schema as it is taken in."""
        return self.named(self.ref(model, "validation")["$ref"])

    def named(self, ref: str) -> dict[str, Any]:
        """The component behind a reference."""
        found: dict[str, Any] = self.components[ref.rpartition("/")[2]]
        return found


class _Generator(GenerateJsonSchema):
    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Variants exclude each other by what each requires, so that any of them says as much as one of them.

        It says it better: what is none of many has to be compared with each, and not with each two, by those who make
        up or check bodies.
        """
        found = super().tagged_union_schema(schema)
        found["anyOf"] = found.pop("oneOf")
        return found


def _refuse_nul(schema: Any) -> None:
    """No text holds a NUL character, because PostgreSQL cannot: the door refuses it, so the document says so."""
    if isinstance(schema, list):
        for one in schema:
            _refuse_nul(one)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "string" and not schema.keys() & {"pattern", "format", "enum", "const"}:
        schema["pattern"] = _NO_NUL
    for name, value in schema.items():
        if name not in ("enum", "const", "default", "examples"):
            _refuse_nul(value)


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _SLUG.sub("_", f"{route.method.lower()}{route.template}").strip("_"),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [*_path_parameters(route), *_query_parameters(route, schemas), *_header_parameters(route)],
        "responses": _responses(route, schemas),
    }
    if route.description:
        operation["description"] = route.description
    if route.permission is not None or route.internal:
        operation["security"] = _security(route)
        operation["x-permission"] = "service" if route.internal else str(route.permission)
    if route.body is not None:
        operation["requestBody"] = _request_body(route, route.body, schemas)
    return operation


def _security(route: Route) -> list[dict[str, list[str]]]:
    """The ways in, each enough by itself; a browser's cookie needs a token beside it where something is changed."""
    if route.internal:
        return [{"bearer": []}]
    key = [] if route.by_login else [("apiKey",)]
    cookie = ("session",) if route.method == "GET" else ("session", "csrfToken")
    return [{name: [] for name in together} for together in (("bearer",), *key, cookie)]


def _path_parameters(route: Route) -> Iterable[dict[str, Any]]:
    for name, kind in route.parameters.items():
        schema: dict[str, Any] = {"type": "string", "format": "uuid"}
        if kind != "id":
            schema = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": NAME_PATTERN}
        told = "Its id." if kind == "id" else "Its id or name."
        yield {"name": name, "in": "path", "required": True, "description": told, "schema": schema}


def _query_parameters(route: Route, schemas: _Schemas) -> Iterable[dict[str, Any]]:
    if route.query is None:
        return
    schema = schemas.resolved(route.query)
    for name, told in schema.get("properties", {}).items():
        parameter = {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _without_null(told),
        }
        if description := told.get("description"):
            parameter["description"] = description
        yield parameter


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A query parameter that is not given is null; one that is given never is."""
    kept = {name: value for name, value in schema.items() if name not in ("title", "description")}
    variants = [one for one in kept.get("anyOf", ()) if one.get("type") != "null"]
    if "anyOf" in kept and len(variants) == 1:
        del kept["anyOf"]
        kept.update(variants[0])
        if kept.get("default", 0) is None:
            del kept["default"]
    return kept


def _header_parameters(route: Route) -> Iterable[dict[str, Any]]:
    for name, told in route.headers.items():
        yield {**_header_parameter(name, told, minLength=1), "required": True}
    if route.permission is not None:
        yield _header_parameter("X-Workspace", "The workspace, by id or name; else the caller's default.")
    if route.conditional:
        yield _header_parameter("If-Match", "The ETag of the version to be changed, or *.", pattern=IF_MATCH_PATTERN)
    if route.idempotent:
        told = "The same key with the same body gets the same answer for 24 hours."
        yield _header_parameter("Idempotency-Key", told, pattern=IDEMPOTENCY_KEY_PATTERN)


def _header_parameter(name: str, told: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": told, "schema": {"type": "string", **schema}}


def _request_body(route: Route, model: type[BaseModel], schemas: _Schemas) -> dict[str, Any]:
    content = {"application/json": {"schema": schemas.ref(model, "validation")}}
    if route.merge_patch:
        schema = _partial(schemas.resolved(model), schemas)
        content = {"application/merge-patch+json": {"schema": schema}, "application/json": {"schema": schema}}
    return {"required": not route.body_optional, "content": content}


def _partial(schema: Mapping[str, Any], schemas: _Schemas) -> dict[str, Any]:
    """What a merge patch of this may hold: any field of any object in it, null to remove one; lists only whole."""
    if "$ref" in schema:
        return _partial(schemas.named(schema["$ref"]), schemas)
    left_out = ("required", "title", "default", "minProperties", "discriminator")
    partial = {name: value for name, value in schema.items() if name not in left_out}
    for name in ("anyOf", "oneOf"):
        if name in schema:
            partial[name] = [_partial(variant, schemas) for variant in schema[name]]
    for name in ("properties", "patternProperties"):
        if name in schema:
            partial[name] = {field: _removable(told, schemas) for field, told in schema[name].items()}
    if isinstance(schema.get("additionalProperties"), Mapping):
        partial["additionalProperties"] = _removable(schema["additionalProperties"], schemas)
    return partial


def _removable(schema: Mapping[str, Any], schemas: _Schemas) -> dict[str, Any]:
    return {"anyOf": [_partial(schema, schemas), {"type": "null"}]}


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(status): {"$ref": f"#/components/responses/{_problem_name(status)}"} for status in route.problem_statuses
    }
    for status, model in route.answers.items():
        answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        content: dict[str, Any] = {}
        if model is not None:
            content["application/json"] = {"schema": schemas.ref(model, "serialization")}
        content |= {kind: {"schema": {"type": "string"}} for kind in route.produces}
        if content:
            answer["content"] = content
        names = ["ETag"] if route.etag and status in (200, 201) and model is not None else []
        names += ["Location"] if status in (201, 202, 302, 303) else []
        if names:
            answer["headers"] = {name: _header(name) for name in names}
        responses[str(status)] = answer
    return dict(sorted(responses.items()))


def _problem_name(status: int) -> str:
    return f"Problem{status}"


def _problem(status: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": _PROBLEMS[status],
        "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
    }
    if names := _PROBLEM_HEADERS.get(status):
        told["headers"] = {name: _header(name) for name in names}
    return told


def _header(name: str) -> dict[str, Any]:
    told, schema = _HEADERS[name]
    return {"description": told, "required": name in _ALWAYS, "schema": dict(schema)}


def merge(
    documents: Mapping[str, Mapping[str, Any]], title: str = TITLE, without: Iterable[str] = ()
) -> dict[str, Any]:
    """One document of several services' (service → document); ``without`` are paths each serves for itself.

    Components of one name that differ get the service's name in front.
    """
    left_out = set(without)
    merged: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("dataaggregator")},
        "paths": {},
        "components": {"schemas": {}, "responses": {}, "securitySchemes": {}},
        "tags": [],
    }
    tags: set[str] = set()
    for service, one in documents.items():
        known = merged["components"]["schemas"]
        renamed = {
            name: f"{service}_{name}"
            for name, schema in one["components"]["schemas"].items()
            if name in known and known[name] != schema
        }
        written = _with_refs(one, {_REF.format(model=old): _REF.format(model=new) for old, new in renamed.items()})
        for name, schema in written["components"]["schemas"].items():
            known[renamed.get(name, name)] = schema
        merged["components"]["responses"].update(written["components"]["responses"])
        merged["components"]["securitySchemes"].update(written["components"]["securitySchemes"])
        merged["paths"].update({path: item for path, item in written["paths"].items() if path not in left_out})
        tags |= {tag["name"] for tag in written.get("tags", ())}
    merged["tags"] = [{"name": tag} for tag in sorted(tags)]
    add_links(merged)
    return merged


def _with_refs(value: Any, renamed: Mapping[str, str]) -> Any:
    """The same with other references."""
    if isinstance(value, Mapping):
        return {
            name: renamed.get(item, item) if name == "$ref" and isinstance(item, str) else _with_refs(item, renamed)
            for name, item in value.items()
        }
    return [_with_refs(item, renamed) for item in value] if isinstance(value, list) else value
