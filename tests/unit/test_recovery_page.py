"""The page about how soon a run ends publishes the formulas that the platform is measured by, and what they come to."""

import re
from pathlib import Path

from dataaggregator.settings import Settings
from tests.faults.bounds import FORMULAS, PARTS, bound_seconds

PAGE = Path(__file__).parent.parent.parent / "docs" / "guarantees" / "recovery.md"


def test_the_bounds_of_the_page_are_those_that_are_measured() -> None:
    shown = re.findall(r"^\| ([\w ]+) \| `([^`]+)` \| (\d+) s \|$", PAGE.read_text(), re.MULTILINE)
    settings = Settings.load({})
    assert shown == [(what, said, f"{bound_seconds(what, settings):g}") for what, said in FORMULAS.items()]


def test_the_parts_of_the_page_are_those_of_the_code() -> None:
    shown = re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert shown == [(name, f"{seconds:g}") for name, seconds in PARTS.items()]


def test_a_bound_follows_the_settings_and_the_time_without_any() -> None:
    settings = Settings.load({"LEASE_SECONDS": "10", "HEARTBEAT_SECONDS": "2", "FENCE_SECONDS": "7"})
    assert bound_seconds("an executor", settings) == 20.0
    assert bound_seconds("an executor", settings, 30.0) == 42.0
