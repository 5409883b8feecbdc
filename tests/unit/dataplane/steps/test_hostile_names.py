"""Whatever a field is called, it is that to every step that puts names into SQL, or the definition is refused."""

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from dataaggregator.errors import Invalid
from tests.names import NAMES
from tests.security import tried

pytestmark = pytest.mark.security

AT_ONCE = 40
REFUSED = {"", "\0", "a\0b", "\ud800"}


# Fields are told apart whatever the case of their letters.
NAMES_OF_FIELDS = list({name.casefold(): name for name in NAMES if name not in REFUSED}.values())
FIRSTS = [int(first) for first in tried(map(str, range(0, len(NAMES_OF_FIELDS), AT_ONCE)))]


@pytest.mark.parametrize("first", FIRSTS)
def test_hostile_names_are_fields_like_any_other(transform: Any, first: int) -> None:
    names = NAMES_OF_FIELDS[first : first + AT_ONCE]
    held = {f"c{number}": ["a", "a", "b"] for number in range(len(names))}
    steps = [
        {"rename": dict(zip(held, names, strict=True))},
        {"cast": dict.fromkeys(names, "string")},
        {"dedupe": {"key": names, "order_by": ["id"]}},
        {"aggregate": {"by": names, "measures": {"n": "count(*)"}}},
        {"mask": dict.fromkeys(names[1:], "redact")},
    ]
    made = transform(steps, pa.table({"id": [1, 1, 2], **held}))
    rows = sorted(made.values, key=lambda row: row[names[0]])
    assert rows == [{names[0]: value, **dict.fromkeys(names[1:], "***"), "n": 1} for value in ("a", "b")]


def test_they_are_as_many_as_was_promised() -> None:
    assert len(NAMES_OF_FIELDS) >= 300


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_can_be_no_name_is_refused(transform: Any, name: str) -> None:
    with pytest.raises((Invalid, ValidationError)):  # at either of which the definition is 422
        transform([{"rename": {"x": name}}, {"dedupe": {"key": [name]}}], pa.table({"x": ["a"]}))
