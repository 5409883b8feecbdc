"""Contracts: which of the runs that wait begins first. Nothing else is imported here: the command line reads it."""

from collections.abc import Mapping
from typing import Literal

Priority = Literal["high", "normal", "low"]
"""Which of a workspace's runs begins first, where more are due than there are slots."""

PLACES: Mapping[Priority, int] = {"high": 1, "normal": 2, "low": 3}
"""As it is stored and sorted by: the lowest number first."""
