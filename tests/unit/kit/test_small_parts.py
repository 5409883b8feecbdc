"""Ids, clock, roles, directory, revocations."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from dataaggregator.clock import SystemClock
from dataaggregator.directory import Directory
from dataaggregator.errors import Transient
from dataaggregator.ids import new_id
from dataaggregator.permissions import ROLE_PERMISSIONS, Permission, Role
from dataaggregator.revocations import InProcessRevocations, Revocation, TokenFacts

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class _Clock:
    at = NOW

    def now(self) -> datetime:
        return self.at


def test_ids_are_uuid7_and_sort_by_time() -> None:
    made = [new_id() for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert {id_.version for id_ in made} == {7}


def test_the_clock_is_aware_and_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_each_role_holds_all_of_the_one_before_and_rows_are_for_editors() -> None:
    held = [ROLE_PERMISSIONS[role] for role in (Role.VIEWER, Role.OPERATOR, Role.EDITOR, Role.ADMIN)]
    for less, more in itertools.pairwise(held):
        assert less < more
    assert held[3] == set(Permission)
    for sensitive in (Permission.DATA_READ, Permission.SOURCE_QUERY, Permission.DEFINITIONS_WRITE):
        assert sensitive not in held[1]
        assert sensitive in held[2]


def test_a_service_that_has_not_started_is_a_passing_trouble() -> None:
    directory = Directory()
    with pytest.raises(Transient):
        directory.url("auth")
    directory.put("auth", "http://127.0.0.1:1/")
    assert directory.url("auth") == "http://127.0.0.1:1"


def _token(issued_at: datetime = NOW, **changed: str) -> TokenFacts:
    return TokenFacts(**{"user_id": "u", "family": "f", "token_id": "t", **changed}, issued_at=issued_at)


async def test_a_revocation_concerns_what_was_issued_before_it() -> None:
    clock = _Clock()
    revocations = InProcessRevocations(clock)
    assert not revocations.revoked(_token())
    await revocations.revoke(Revocation("user", "u", NOW, NOW + timedelta(days=1)))
    assert revocations.revoked(_token())
    assert not revocations.revoked(_token(issued_at=NOW + timedelta(seconds=1)))
    assert not revocations.revoked(_token(user_id="v"))
    await revocations.revoke(Revocation("user", "u", NOW - timedelta(days=1), NOW))
    assert revocations.revoked(_token())  # an older one takes nothing back


async def test_revocations_that_no_longer_matter_are_forgotten() -> None:
    clock = _Clock()
    revocations = InProcessRevocations(clock)
    revocations.load(Revocation("token", str(n), NOW, NOW + timedelta(minutes=30)) for n in range(2000))
    clock.at = NOW + timedelta(hours=1)
    await revocations.revoke(Revocation("token", "new", clock.at, clock.at + timedelta(minutes=30)))
    assert len(revocations._known) == 1
