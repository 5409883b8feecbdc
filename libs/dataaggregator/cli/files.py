"""Definitions in files: YAML, a document for each or lists of them by kind, with the place each came from."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from dataaggregator.contracts.apply import KINDS, kind_of

Json = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: `on` is a word, the field of a join."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)

LISTS = {f"{kind}s": kind for kind in KINDS}


@dataclass(frozen=True)
class Document:
    """One definition, `kind` in it where it can be told, and the file it stands in."""

    file: Path
    definition: Json

    def __str__(self) -> str:
        kind, name = (self.definition.get(part, "?") for part in ("kind", "name"))
        return f"{self.file}: {kind} {name}"


def read_documents(paths: Sequence[Path]) -> list[Document]:
    """All definitions of these files, and of all YAML files below those that are folders."""
    return [
        Document(file, definition)
        for path in paths
        for file in _files(path)
        for document in _documents(file)
        for definition in _definitions(file, document)
    ]


def read_yaml(text: str) -> Iterator[Any]:
    """The documents of a YAML text."""
    yield from yaml.load_all(text, _Loader)


def write_yaml(definitions: Sequence[Json]) -> str:
    """A document for each definition, as `read_documents` reads them."""
    return yaml.safe_dump_all(definitions, explicit_start=True, sort_keys=False, allow_unicode=True, width=120)


def _files(path: Path) -> Sequence[Path]:
    return sorted(one for one in path.rglob("*") if one.suffix in {".yaml", ".yml"}) if path.is_dir() else [path]


def _documents(file: Path) -> Sequence[Any]:
    try:
        return [one for one in read_yaml(file.read_text()) if one is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise click.UsageError(f"{file} cannot be read: {error}") from error


def _definitions(file: Path, document: Any) -> Iterator[Json]:
    if not isinstance(document, dict):
        raise click.UsageError(f"{file}: a document is one definition, or lists of them by {', '.join(LISTS)}.")
    if not set(document) <= set(LISTS):
        yield _with_kind(document)
        return
    for name, items in document.items():
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise click.UsageError(f"{file}: {name} is a list of definitions.")
        for item in items:
            yield {"kind": LISTS[name], **item}


def _with_kind(document: Json) -> Json:
    kind = kind_of(document)
    return document if kind is None else {"kind": kind, **document}
