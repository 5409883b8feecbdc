"""The reference: the page of public events: type, when it is said and by whom, and every field."""

from collections.abc import Iterable, Mapping
from typing import Any

from dataaggregator.contracts import asyncapi
from dataaggregator.contracts.envelope import PUBLIC
from dataaggregator.reference.markdown import HEAD, table

_WIRE = f"""
Each public event is one message on the durable topic exchange `{asyncapi.EXCHANGE}`. Its routing key is its type. It is
a CloudEvent 1.0 in AMQP binary mode: the body is its data as JSON, its attributes are headers. What a subscriber may
rely on stands in [the guarantee](../guarantees/events.md); the same as a document for programs is
[asyncapi.json](asyncapi.json), and `proto/` is the norm of the fields.

Fields may be added: ignore those you do not know. A field is never null. What is not marked *always* may be left out:
it then has its default, or is not known.
"""


def page() -> str:
    document = asyncapi.document()
    schemas = document["components"]["schemas"]
    overview = table(
        ("type", "when", "said by", "subject"),
        ((f"[`{name}`](#{_anchor(name)})", _told(name), PUBLIC[name].said_by, _subject(name)) for name in PUBLIC),
    )
    attributes = _fields(schemas["Attributes"])
    data = {name: schemas[message.__name__] for name, message in PUBLIC.items()}
    events = "".join(f"\n## {name}\n\n{_told(name)}\n\n{_fields(schema)}" for name, schema in data.items())
    parts = "".join(
        f"\n## {name}\n\n{_first(schemas[name].get('description', ''))}\n\n{_fields(schemas[name])}"
        for name in _parts(data.values(), schemas)
    )
    return f"{HEAD}\n# Events\n{_WIRE}\n{overview}\n## Headers\n\n{attributes}{events}{parts}"


def _told(name: str) -> str:
    ephemeral = " Never stored; may be lost." if PUBLIC[name].ephemeral else ""
    return f"{_first(asyncapi.told(PUBLIC[name]))}{ephemeral}"


def _first(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())


def _subject(name: str) -> str:
    return {"schema": "connector", "login": "user"}.get(kind := name.partition(".")[0], kind)


def _anchor(name: str) -> str:
    return name.lower().replace(".", "")


def _fields(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = (
        (f"`{name}`", _word(field), "always" if name in required else "", field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    )
    return table(("field", "type", "there", ""), rows)


def _word(field: Mapping[str, Any]) -> str:
    """`string (uuid)`, `list of StageProgress`, `"source" or "destination"`."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return name if name in _NOT_TOLD else f"[{name}](#{name.lower()})"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return " or ".join(_word(one) for one in field["anyOf"])
    kind = field.get("type", "any")
    if kind == "array":
        return f"list of {_word(field.get('items', {}))}"
    if kind == "object":
        values = field.get("additionalProperties")
        return f"map of {_word(values)}" if isinstance(values, Mapping) else "object"
    return f"{kind} ({field['format']})" if "format" in field else str(kind)


_NOT_TOLD = frozenset({"ResolvedPipeline"})
"""What is the API's to tell: the definition of a pipeline is as long as all events together."""


def _parts(told: Iterable[Mapping[str, Any]], schemas: Mapping[str, Any]) -> list[str]:
    """The names of all schemas that these lead to, each once, in the order of first mention."""
    found: dict[str, None] = {}
    waiting = [name for schema in told for name in _references(schema)]
    while waiting:
        name = waiting.pop(0)
        if name not in found and name not in _NOT_TOLD:
            found[name] = None
            waiting += _references(schemas[name])
    return list(found)


def _references(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
        return own + [name for part in value.values() for name in _references(part)]
    return [name for part in value for name in _references(part)] if isinstance(value, list) else []
