"""API keys as they are written: found by scanners, and told from what was never one."""

import re

import pytest

from dataaggregator import api_keys


def test_a_key_is_one_word_that_its_pattern_finds_and_no_two_are_alike() -> None:
    made = {api_keys.new_key() for _ in range(200)}
    assert len(made) == 200
    for key in made:
        assert api_keys.well_formed(key)
        assert re.findall(api_keys.PATTERN, f'token = "{key}", and more') == [key]


@pytest.mark.parametrize("place", [3, 20, 45, 46, 51])
def test_a_key_with_one_letter_wrong_is_none(place: int) -> None:
    key = api_keys.new_key()
    other = "a" if key[place] != "a" else "b"
    assert not api_keys.well_formed(key[:place] + other + key[place + 1 :])


@pytest.mark.parametrize("key", ["", "da_", "da_" + "0" * 49, "dah_" + "0" * 49, "da_" + "ü" * 49, "x"])
def test_what_was_never_a_key_is_none(key: str) -> None:
    assert not api_keys.well_formed(key)
    assert not api_keys.well_formed(api_keys.new_key()[:-1])
    assert not api_keys.well_formed(api_keys.new_key() + "\n")
