"""Every error that is raised anywhere has an entry in the catalogue, a status, and a place in the documents."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataaggregator import errors
from dataaggregator.catalogue import CATALOGUE
from dataaggregator.errors import PlatformError
from dataaggregator.http.problems import status_of

ROOT = Path(__file__).parents[3]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, PlatformError)}


def _raised() -> Iterator[tuple[str, str]]:
    """(code, where) of every error made with a literal code."""
    for folder in ("libs", "services", "deploy"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _name(node.func) in KINDS and node.args:
                    first = node.args[0]
                    if isinstance(first, ast.Constant) and isinstance(first.value, str):
                        yield first.value, f"{path.relative_to(ROOT)}:{node.lineno}"


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def test_every_code_that_is_raised_stands_in_the_catalogue() -> None:
    unknown = [f"{where}: {code}" for code, where in _raised() if code not in CATALOGUE]
    assert unknown == []


def test_the_catalogue_is_sorted_and_speaks_in_sentences() -> None:
    assert list(CATALOGUE) == sorted(CATALOGUE)
    for code, entry in CATALOGUE.items():
        assert code == code.lower()
        assert code.replace("-", "").isalnum(), code
        assert not entry.title.endswith("."), code
        assert entry.cure.endswith((".", "?", ")")), code


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_error_has_a_status(kind: str) -> None:
    status = status_of(getattr(errors, kind)("conflict", "x"))
    assert status == (500 if kind == "PlatformError" else status)
    assert kind == "PlatformError" or status in (400, 401, 403, 404, 409, 412, 413, 422, 429, 502, 503)
