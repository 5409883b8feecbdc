"""The pure rules of a run: its states, what follows an attempt's end, and how long a retry waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.policies import RetryPolicy
from dataaggregator.contracts.run import RunError
from services.executor.domain import (
    CANCELLED,
    LOSS_LIMIT,
    End,
    Ending,
    Standing,
    Status,
    decide,
    has_ended,
    may_step,
    pause_seconds,
)


def an_error(*, retryable: bool) -> RunError:
    return RunError(code="connector-unreachable", detail="refused", help="", stage=None, retryable=retryable)


ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT)


@pytest.mark.parametrize("ended", ENDED)
def test_an_ended_run_never_changes(ended: Status) -> None:
    assert has_ended(ended)
    assert not any(may_step(ended, after) for after in Status)


def test_a_queued_run_cannot_succeed_without_running() -> None:
    assert not may_step(Status.QUEUED, Status.SUCCEEDED)
    assert may_step(Status.QUEUED, Status.CANCELLED)
    assert may_step(Status.RUNNING, Status.QUEUED)


def test_a_retryable_error_is_retried_until_the_attempts_are_spent() -> None:
    retry = RetryPolicy(attempts=3)
    error = an_error(retryable=True)
    second = decide(Standing(1), End.FAILED, error, retry, 0.5)
    assert (second.status, second.attempt) == (Status.QUEUED, 2)
    assert decide(Standing(2), End.FAILED, error, retry, 0.5).status is Status.QUEUED
    last = decide(Standing(3), End.FAILED, error, retry, 0.5)
    assert last.status is Status.FAILED
    assert last.error == error


def test_an_error_that_cannot_pass_is_not_retried() -> None:
    verdict = decide(Standing(1), End.FAILED, an_error(retryable=False), RetryPolicy(attempts=5), 0.5)
    assert verdict.status is Status.FAILED


def test_a_run_handed_back_spends_no_attempt_and_waits_for_nothing() -> None:
    verdict = decide(Standing(2), End.HANDED_BACK, None, RetryPolicy(attempts=2), 0.5)
    assert (verdict.status, verdict.attempt, verdict.retry_in_seconds) == (Status.QUEUED, 2, 0.0)


def test_a_loss_spends_no_attempt_of_the_definition_but_is_bounded() -> None:
    first = decide(Standing(1), End.LOST, None, RetryPolicy(attempts=1), 0.5)
    assert (first.status, first.attempt, first.lost, first.retry_in_seconds) == (Status.QUEUED, 2, 1, 0.0)
    after = decide(Standing(2, lost=1), End.FAILED, an_error(retryable=True), RetryPolicy(attempts=2), 0.5)
    assert after.status is Status.QUEUED
    last = decide(Standing(LOSS_LIMIT, lost=LOSS_LIMIT - 1), End.LOST, None, RetryPolicy(attempts=9), 0.5)
    assert last.status is Status.FAILED


@pytest.mark.parametrize("end", [End.FAILED, End.CANCELLED])
def test_a_wish_to_cancel_wins_over_every_retry(end: End) -> None:
    standing = Standing(1, cancel_requested=True)
    assert decide(standing, end, an_error(retryable=True), RetryPolicy(attempts=9), 0.5).status is Status.CANCELLED


@pytest.mark.parametrize("end", [End.LOST, End.HANDED_BACK])
def test_where_nobody_knows_what_was_committed_a_cancelled_run_asks_first(end: End) -> None:
    verdict = decide(Standing(1, cancel_requested=True), end, None, RetryPolicy(), 0.5)
    assert (verdict.status, verdict.ending, verdict.retry_in_seconds) == (Status.QUEUED, CANCELLED, 0.0)


def test_a_run_ended_by_force_asks_first_and_spends_no_attempt() -> None:
    late = Ending(Status.TIMED_OUT, an_error(retryable=False))
    verdict = decide(Standing(2), End.KILLED, an_error(retryable=True), RetryPolicy(attempts=2), 0.5, killed=late)
    assert (verdict.status, verdict.attempt, verdict.lost, verdict.ending) == (Status.QUEUED, 2, 0, late)


ASKING = Standing(2, ending=Ending(Status.TIMED_OUT, an_error(retryable=False)))


def test_what_the_destinations_hold_decides_about_a_run_that_asked() -> None:
    assert decide(ASKING, End.SUCCEEDED, None, RetryPolicy(), 0.5).status is Status.SUCCEEDED
    verdict = decide(ASKING, End.CANCELLED, None, RetryPolicy(), 0.5)
    assert (verdict.status, verdict.error) == (Status.TIMED_OUT, an_error(retryable=False))


@pytest.mark.parametrize("end", [End.FAILED, End.LOST, End.KILLED, End.HANDED_BACK])
def test_a_destination_that_could_not_be_asked_is_asked_again(end: End) -> None:
    verdict = decide(ASKING, end, an_error(retryable=True), RetryPolicy(attempts=1), 0.5)
    assert (verdict.status, verdict.attempt, verdict.ending) == (Status.QUEUED, 2, ASKING.ending)


def test_asking_is_bounded_and_its_failure_told() -> None:
    unreachable = an_error(retryable=True)
    last = Standing(9, lost=LOSS_LIMIT - 1, ending=CANCELLED)
    verdict = decide(last, End.FAILED, unreachable, RetryPolicy(attempts=99), 0.5)
    assert (verdict.status, verdict.error) == (Status.CANCELLED, unreachable)
    verdict = decide(Standing(1, ending=CANCELLED), End.FAILED, an_error(retryable=False), RetryPolicy(), 0.5)
    assert (verdict.status, verdict.error) == (Status.CANCELLED, an_error(retryable=False))


def test_a_run_that_committed_before_the_cancel_has_succeeded() -> None:
    verdict = decide(Standing(1, cancel_requested=True), End.SUCCEEDED, None, RetryPolicy(), 0.5)
    assert verdict.status is Status.SUCCEEDED


def test_a_timeout_ends_the_run() -> None:
    error = an_error(retryable=True)
    assert decide(Standing(1), End.TIMED_OUT, error, RetryPolicy(attempts=9), 0.5).status is Status.TIMED_OUT


@given(failures=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_a_retry_waits_between_half_and_the_whole_of_its_backoff(failures: int, jitter: float) -> None:
    retry = RetryPolicy(attempts=5, initial=Duration("10s"), maximum=Duration("10m"))
    whole = min(10.0 * 2.0 ** min(failures - 1, 30), 600.0)
    assert whole / 2 <= pause_seconds(retry, failures, jitter) <= whole


def test_a_fixed_backoff_does_not_grow() -> None:
    retry = RetryPolicy(attempts=5, backoff="fixed", initial=Duration("10s"))
    assert pause_seconds(retry, 1, 0.0) == pause_seconds(retry, 7, 0.0) == 5.0
