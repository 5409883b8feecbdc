"""The page about security: each line that says it is covered names a test that is there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "security.md"
LINE = re.compile(
    r"\| (?P<name>(?:API)?[0-9.]+) \| (?P<what>[^|]+) \| (?P<state>[a-z ]+) \| (?P<how>[^|]+) \| (?P<test>[^|]+) \|"
)
LINK = re.compile(r'\[test\]\(\.\./(?P<file>tests/[^ )]+) "(?P<test>\w+)"\)')
TEXT = PAGE.read_text()
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| (API)?[0-9]", line)]
FOUND = [match for row in ROWS if (match := LINE.fullmatch(row))]


def test_every_line_can_be_read() -> None:
    assert len(FOUND) == len(ROWS) >= 60
    assert len({match["name"] for match in FOUND}) == len(FOUND)
    assert {match["name"] for match in FOUND} >= {f"API{number}" for number in range(1, 11)}


@pytest.mark.parametrize("line", FOUND, ids=[match["name"] for match in FOUND])
def test_what_is_covered_names_a_test_that_is_there(line: re.Match[str]) -> None:
    links = line["test"].split(", ")
    assert all(LINK.fullmatch(link) for link in links) == (line["state"] != "not yet")
    assert len(set(links)) == len(links)
    assert line["state"] in {"covered", "partly", "not yet"}


@pytest.mark.parametrize(("file", "test"), sorted({link.group("file", "test") for link in LINK.finditer(TEXT)}))
def test_each_test_that_is_named_is_there(file: str, test: str) -> None:
    text = (PAGE.parent.parent / file).read_text()
    assert re.search(rf"^ *(async )?def {test}\(", text, re.MULTILINE)


def test_each_attack_has_a_test() -> None:
    _, told, tried = TEXT.partition("\n## What is tried\n")
    attacks = [line for line in tried.splitlines() if line.startswith("| ") and not line.startswith("| attack |")]
    assert told
    assert len(attacks) >= 12
    assert all(LINK.search(line) for line in attacks)
