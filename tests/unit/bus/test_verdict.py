"""The one verdict: what becomes of an event whose handler raised."""

import pytest

from dataaggregator.bus.verdict import (
    LONGEST_PAUSE_SECONDS,
    MOST_GAP_TRIES,
    MOST_TRIES,
    Ack,
    Park,
    Retry,
    SequenceGap,
    reason,
    verdict,
)
from dataaggregator.errors import Conflict, Denied, Invalid, NotFound, Permanent, RateLimited, Stale, Transient


@pytest.mark.parametrize("error", [Conflict("conflict", "x"), Stale("conflict", "x")])
def test_a_conflict_is_acknowledged(error: Exception) -> None:
    assert verdict(error, 1) == Ack()


@pytest.mark.parametrize("error", [Invalid("x", "x"), NotFound("x", "x"), Denied("x", "x"), Permanent("x", "x")])
def test_what_no_second_try_can_cure_is_parked(error: Exception) -> None:
    assert verdict(error, 1) == Park()


@pytest.mark.parametrize("error", [Transient("x", "x"), RateLimited("x", "x"), KeyError("a bug")])
def test_what_may_pass_is_tried_ten_times_and_then_parked(error: Exception) -> None:
    assert all(isinstance(verdict(error, tries), Retry) for tries in range(1, MOST_TRIES))
    assert verdict(error, MOST_TRIES) == Park()
    assert MOST_TRIES <= 10


def test_pauses_grow_and_end() -> None:
    pauses = [v.after_seconds for n in range(1, MOST_TRIES) if isinstance(v := verdict(KeyError(), n), Retry)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1
    assert pauses[-1] <= LONGEST_PAUSE_SECONDS * 1.1


def test_a_pause_the_error_asks_for_is_kept() -> None:
    found = verdict(Transient("x", "x", retry_after=40), 1)
    assert isinstance(found, Retry)
    assert found.after_seconds == 40


def test_waiting_for_an_earlier_event_is_no_failure_of_its_own() -> None:
    gap = SequenceGap(2, 4)
    pauses = [v.after_seconds for n in range(1, MOST_GAP_TRIES) if isinstance(v := verdict(gap, n), Retry)]
    assert 1_800 < sum(pauses) < 7_200
    assert verdict(gap, MOST_GAP_TRIES) == Park()
    assert reason(gap) == ("sequence-gap", "waits for sequence 2 of its subject, is 4")


def test_the_reason_kept_for_a_person_carries_no_password() -> None:
    code, why = reason(ValueError("cannot reach postgresql://ada:hunter2@db/x"))
    assert code == "internal-error"
    assert "hunter2" not in why
    assert "ValueError" in why


@pytest.mark.parametrize("error", [Invalid("x", "a\0b"), KeyError("a\0b"), ValueError("a\0b")])
def test_a_reason_can_be_stored_whatever_character_is_in_it(error: Exception) -> None:
    assert "\0" not in reason(error)[1]
