"""What a connector type says of itself: its configuration, what it reads and writes, and how it is checked."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import Destination, WriteKind
from dataaggregator.connector.source import ReadMode, Source


class Config(BaseModel):
    """A connector's configuration; secrets are SecretStr, which makes them writeOnly in the JSON schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True)
class WriteMode:
    mode: WriteKind
    delivery: Literal["exactly_once", "at_least_once"]


@dataclass(frozen=True)
class Check:
    """One answer of a connector test: resolve, connect, TLS, log in, list, read or write permission."""

    name: str
    ok: bool
    detail: str
    code: str | None = None
    duration_ms: float = 0.0


@dataclass(frozen=True)
class TypeRow:
    """Types of a system that are read as the same Arrow type, by names that a column of them can be declared with."""

    types: tuple[str, ...]
    arrow: str
    remark: str = ""


@dataclass(frozen=True)
class Naming:
    """How streams are called, for who has a whole schema of them to give names to.

    `parts` of a stream's name are its schema or folder ('' where it lies in none) and its name there; `within` is what
    a stream of this name is called in a schema or folder. Both raise Invalid.
    """

    parts: Callable[[str], tuple[str, str]]
    within: Callable[[str, str], str] | None = None
    """None where streams lie in no schema, or their names are given with the connector."""


@dataclass(frozen=True)
class ConnectorType:
    """Code for one kind of system; the form, the reference page and the API's answer come from it."""

    name: str
    title: str
    config: type[Config]
    source: Callable[[Any, Context], Source] | None
    destination: Callable[[Any, Context], Destination] | None
    check: Callable[[Any, Context], AsyncIterator[Check]]
    read_modes: tuple[ReadMode, ...]
    write_modes: tuple[WriteMode, ...]
    docs: str
    types: tuple[TypeRow, ...] = ()
    """For the reference; none where the types are those of the files or documents that are read."""
    types_remark: str = ""
    naming: Naming | None = None
    """Without it no whole schema can be replicated from or to this type."""
    side_by_side: bool = False
    """Whether its destinations keep a fence for each lane: runs of one pipeline may then write to it side by side."""

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(
            role for role, made in (("source", self.source), ("destination", self.destination)) if made is not None
        )


def config_schema(type_: ConnectorType) -> dict[str, Any]:
    """The JSON Schema of the configuration, secrets marked writeOnly."""
    return type_.config.model_json_schema()


def secret_paths(type_: ConnectorType) -> tuple[str, ...]:
    """Where secrets stand in a configuration: dotted paths, `*` for any key of a map ("headers.*")."""
    return _secret_paths(type_.config)


@cache
def _secret_paths(config: type[Config]) -> tuple[str, ...]:
    schema = config.model_json_schema()
    found = dict.fromkeys(".".join(path) for path in _secrets(schema, schema.get("$defs", {}), ()))
    return tuple(found)


def _secrets(node: Mapping[str, Any], defs: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if "$ref" in node:
        yield from _secrets(defs[str(node["$ref"]).rsplit("/", 1)[-1]], defs, path)
    if node.get("writeOnly"):
        yield path
    for alternative in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from _secrets(alternative, defs, path)
    for name, below in node.get("properties", {}).items():
        yield from _secrets(below, defs, (*path, name))
    extra = node.get("additionalProperties")
    if isinstance(extra, Mapping):
        yield from _secrets(extra, defs, (*path, "*"))


def map_secrets(type_: ConnectorType, config: Mapping[str, Any], change: Callable[[str, str], Any]) -> dict[str, Any]:
    """A copy of a raw configuration with each secret text replaced by `change(path, text)`; references stay."""
    patterns = [path.split(".") for path in secret_paths(type_)]
    return {name: _mapped(value, (name,), patterns, change) for name, value in config.items()}


def _mapped(value: Any, path: tuple[str, ...], patterns: list[list[str]], change: Callable[[str, str], Any]) -> Any:
    if isinstance(value, Mapping):
        return {name: _mapped(below, (*path, name), patterns, change) for name, below in value.items()}
    if isinstance(value, str) and any(_fits(path, pattern) for pattern in patterns):
        return change(".".join(path), value)
    return value


def _fits(path: tuple[str, ...], pattern: list[str]) -> bool:
    return len(path) == len(pattern) and all(want in ("*", have) for have, want in zip(path, pattern, strict=True))
