"""The links of an OpenAPI document: from a call that makes or starts something to what can be done with it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Paths = Mapping[str, Mapping[str, Any]]

_LAST = re.compile(r"/\{([a-z_]+)\}$")
_PARAMETER = re.compile(r"\{([a-z_]+)\}")
_MAKING = ("201", "202")
_REF = "#/components/links/{name}"


def add_links(document: dict[str, Any]) -> None:
    """Write links into the document of all services, for what one service makes another may tell of.

    A POST that answers 201 or 202 leads to each operation at or below the path of what it made: the item of its own
    collection, and the path whose GET answers with the same model (a run is started below its pipeline and lives
    below ``/api/runs``). What such an operation needs besides stands in the path of the POST, or there is no link.
    """
    paths: Paths = document["paths"]
    schemas: Mapping[str, Mapping[str, Any]] = document["components"]["schemas"]
    shown = list(_shown(paths))
    links: dict[str, Any] = {}
    for source, item in paths.items():
        for status in _MAKING:
            answer = item.get("post", {}).get("responses", {}).get(status, {})
            model = _model(answer)
            fields = schemas.get(model, {}).get("properties", {})
            made_here = {path for path in paths if _LAST.search(path) and _LAST.sub("", path) == source}
            found: dict[str, Any] = {}
            for made in made_here | {path for name, path in shown if name == model}:
                found |= _leading(paths, made, _known(source, made, fields))
            if found:
                answer["links"] = {name: {"$ref": _REF.format(name=name)} for name in sorted(found)}
                links |= found
    document["components"]["links"] = dict(sorted(links.items()))


def _shown(paths: Paths) -> Iterator[tuple[str, str]]:
    """Model, and a path of one that is shown by it."""
    for path, item in paths.items():
        model = _model(item.get("get", {}).get("responses", {}).get("200", {}))
        if model and _LAST.search(path):
            yield model, path


def _model(answer: Mapping[str, Any]) -> str:
    """The name of an answer's model, empty for none."""
    schema: Mapping[str, str] = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return schema.get("$ref", "").rpartition("/")[2]


def _known(source: str, made: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """Path parameter → where its value stands: in the path of the call, or in the answer for what was made."""
    known = {name: f"$request.path.{name}" for name in _PARAMETER.findall(source)}
    last = _PARAMETER.findall(made)[-1]
    for field in ("id", f"{last}_id"):
        if field in fields:
            return {**known, last: f"$response.body#/{field}"}
    return {}


def _leading(paths: Paths, made: str, known: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The links to the operations at and below a path, each called like the operation it leads to."""
    for path, item in paths.items():
        needed = _PARAMETER.findall(path)
        if path.startswith(made) and known.keys() >= set(needed):
            for operation in item.values():
                name = operation["operationId"]
                yield name, {"operationId": name, "parameters": {one: known[one] for one in needed}}
