"""The share of the attacks in `make test`: of each kind some, and nothing that the whole matrix does not have."""

import pytest

from tests.integration.sandbox.python_attempts import EVERY
from tests.security import tried


def group(name: str) -> str:
    return name.partition(":")[0]


def test_a_share_has_some_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECURITY", raising=False)
    share = tried(EVERY, group)
    assert {group(name) for name in share} == {group(name) for name in EVERY}
    assert set(share) < set(EVERY)
    assert len(share) < len(EVERY) / 3


def test_the_whole_matrix_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURITY", "all")
    assert tried(EVERY, group) == list(EVERY)
