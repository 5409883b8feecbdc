"""Pipelines of a file are saved in the order in which they come after each other."""

from typing import Any

import pytest

from dataaggregator.cli.definitions import in_order


def _names(*given: tuple[str, Any]) -> list[str]:
    return [one["name"] for one in in_order([{"name": name, "triggers": triggers} for name, triggers in given])]


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ([("c", [{"after": ["b", "elsewhere"]}]), ("b", [{"after": ["a"]}]), ("a", [])], ["a", "b", "c"]),
        ([("c", None), ("b", [{"every": "1h"}]), ("a", "wrong")], ["c", "b", "a"]),
        ([("a", [{"after": ["b"]}]), ("b", [{"after": ["a"]}])], ["a", "b"]),
        ([("a", [{"after": ["a"]}]), ("b", [{"after": [1, ["x"]]}, 2])], ["a", "b"]),
        ([("a", [{"after": ["b"]}]), ("b", []), ("b", [])], ["a", "b", "b"]),
    ],
)
def test_who_is_followed_comes_first_and_what_is_wrong_stays_for_the_server_to_say(
    given: list[tuple[str, Any]], order: list[str]
) -> None:
    assert _names(*given) == order
