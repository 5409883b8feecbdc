"""The page about ways to lose a row: each of its lines says what becomes of it, and has a test of that name."""

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "guarantees" / "data-loss.md"
LINE = re.compile(r'\| (?P<what>[^|]+) \| (?P<answer>\w+) \| [^|]+ \| \[test\]\((?P<file>[^ )]+) "(?P<test>\w+)"\) \|')
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| what ")]
FOUND = [match for row in ROWS if (match := LINE.fullmatch(row))]


def test_every_line_can_be_read() -> None:
    assert len(FOUND) == len(ROWS) >= 40
    assert {match["answer"] for match in FOUND} == {"prevented", "counted", "refused"}
    assert len({match["what"] for match in FOUND}) == len({match["test"] for match in FOUND}) == len(FOUND)


@pytest.mark.parametrize(("file", "test"), [match.group("file", "test") for match in FOUND])
def test_its_test_is_there(file: str, test: str) -> None:
    """In a file that is collected, not left out, and able to fail."""
    path = (PAGE.parent / file).resolve()
    assert path.name.startswith("test_") or path.name == "conformance.py"
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    [function] = [node for node in functions if node.name == test]
    decorators = (part for mark in function.decorator_list for part in ast.walk(mark))
    marks = {part.attr for part in decorators if isinstance(part, ast.Attribute)}
    assert marks.isdisjoint({"skip", "skipif", "xfail"})
    called = {part.id for part in ast.walk(function) if isinstance(part, ast.Name)}
    assert any(_can_fail(node) for node in functions if node is function or node.name in called)


def _can_fail(function: ast.AST) -> bool:
    """By an assertion, or by an error that does not come."""
    return any(
        isinstance(part, ast.Assert) or (isinstance(part, ast.Attribute) and part.attr == "raises")
        for part in ast.walk(function)
    )
