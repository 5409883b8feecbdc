"""The page about security: each line that says it is covered names a test that is there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "security.md"
LINE = re.compile(
    r"\| (?P<name>(?:API)?[0-9.]+) \| (?P<what>[^|]+) \| (?P<state>[a-z ]+) \| (?P<how>[^|]+) \| (?P<test>[^|]+) \|"
)
LINK = re.compile(r'\[test\]\(\.\./(?P<file>tests/[^ )]+) "(?P<test>\w+)"\)')
ROWS = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (API)?[0-9]", line)]
FOUND = [match for row in ROWS if (match := LINE.fullmatch(row))]


def test_every_line_can_be_read() -> None:
    assert len(FOUND) == len(ROWS) >= 60
    assert len({match["name"] for match in FOUND}) == len(FOUND)
    assert {match["name"] for match in FOUND} >= {f"API{number}" for number in range(1, 11)}


@pytest.mark.parametrize("line", FOUND, ids=[match["name"] for match in FOUND])
def test_what_is_covered_names_a_test_that_is_there(line: re.Match[str]) -> None:
    link = LINK.fullmatch(line["test"])
    assert (link is None) == (line["state"] == "not yet")
    assert line["state"] in {"covered", "partly", "not yet"}
    if link is not None:
        text = (PAGE.parent.parent / link["file"]).read_text()
        assert re.search(rf"^ *(async )?def {link['test']}\(", text, re.MULTILINE)
