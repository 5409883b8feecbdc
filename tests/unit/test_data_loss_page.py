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
    tree = ast.parse((PAGE.parent / file).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert test in functions
