"""Writes what docs/ holds of the code: settings, metrics, errors, events, types, the API; ``--check`` compares it."""

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from dataaggregator.reference import documents, events, tables, types


@cache
def pages() -> Mapping[str, str]:
    """Every generated page by its path below docs/."""
    return {
        "reference/settings.md": tables.settings(),
        "reference/metrics.md": tables.metrics(),
        "reference/errors.md": tables.errors(),
        "reference/events.md": events.page(),
        "reference/types.md": types.page(),
        "reference/asyncapi.json": documents.asyncapi(),
        "reference/openapi.json": documents.openapi(),
        "troubleshooting/errors.md": tables.cures(),
    }


def differing(docs: Path) -> list[str]:
    """The pages that are not what the code says."""
    return [name for name, text in pages().items() if not (docs / name).is_file() or (docs / name).read_text() != text]


def write(docs: Path) -> None:
    """Write every page that differs."""
    for name in differing(docs):
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[name])


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` name those that are out of date (exit code 1)."""
    docs = Path("docs")
    if not docs.is_dir():
        sys.stderr.write("There is no folder docs here: run this in the root of the repository.\n")
        return 2
    if "--check" not in arguments:
        write(docs)
        return 0
    old = differing(docs)
    for name in old:
        sys.stderr.write(f"docs/{name} is not what the code says: run python -m dataaggregator.reference\n")
    return 1 if old else 0
