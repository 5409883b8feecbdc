"""Ids, clock, roles, directory."""

import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from dataaggregator.clock import SystemClock
from dataaggregator.directory import Directory
from dataaggregator.errors import Invalid, Transient
from dataaggregator.ids import made_at, new_id
from dataaggregator.page_cursor import decode_cursor, encode_cursor
from dataaggregator.permissions import ROLE_PERMISSIONS, Permission, Role


def test_ids_are_uuid7_and_sort_by_time() -> None:
    made = [new_id() for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert {id_.version for id_ in made} == {7}


def test_an_id_tells_when_it_was_made() -> None:
    assert made_at(UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    before = SystemClock().now()
    made = made_at(new_id())
    assert made is not None
    assert before - timedelta(milliseconds=1) <= made <= SystemClock().now()
    assert made_at(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")) is None
    assert made_at(UUID("c232ab00-9414-11ec-b3c8-9f6bdeced846")) is None


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


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_cursor_with_a_moment_that_no_calendar_has_is_none_of_ours(moment: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode_cursor(encode_cursor(moment), datetime)
    assert refused.value.code == "cursor-invalid"
