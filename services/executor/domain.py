"""domain: what a run is and which steps it may take; how an attempt's end is turned into the run's next state."""

from dataclasses import dataclass, replace
from enum import StrEnum

from dataaggregator.contracts.policies import RetryPolicy
from dataaggregator.contracts.run import RunError

LOSS_LIMIT = 5
"""How often the machinery under a run (executor, run process) may die before the run is given up."""
LOSS_DELAY_SECONDS = 2.0
"""The wait after the second loss; it doubles with each further one (the first goes on at once)."""


class Status(StrEnum):
    """`queued → running → succeeded | failed | cancelled | timed_out`; running goes back to queued between attempts."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


_STEPS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT}),
    Status.RUNNING: frozenset({Status.QUEUED, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT}),
}


def may_step(before: Status, after: Status) -> bool:
    """Whether a run may go from one state to the other; an ended run never changes."""
    return after in _STEPS.get(before, frozenset())


def has_ended(status: Status) -> bool:
    return status not in _STEPS


class End(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    """The executor or the run process died: nobody knows what the attempt did; the destination is asked next."""
    HANDED_BACK = "handed_back"
    """An executor that stops, or has no slot free, gave the run back: the attempt is not spent."""
    KILLED = "killed"
    """Ended by force, at a commit perhaps: the destinations are asked before the run's end is told."""


UNKNOWN = frozenset({End.LOST, End.HANDED_BACK, End.KILLED})
"""Nobody knows what such an attempt committed."""


@dataclass(frozen=True)
class Ending:
    """How a run is to end unless its destinations hold everything: its next attempt only asks them."""

    status: Status
    error: RunError | None = None


CANCELLED = Ending(Status.CANCELLED)


def pause_seconds(retry: RetryPolicy, failures: int, jitter: float) -> float:
    """The wait after that many failures: half of it fixed, half by `jitter` in [0, 1), so that retries spread."""
    return retry.pause_seconds(failures) * (0.5 + 0.5 * jitter)


@dataclass(frozen=True)
class Standing:
    """What of a running run the decision reads: the attempt's number, attempts lost so far, a wish to cancel.

    With an `ending` the attempt only asked the destinations.
    """

    attempt: int
    lost: int = 0
    cancel_requested: bool = False
    ending: Ending | None = None


@dataclass(frozen=True)
class Verdict:
    """The run's next state; `retry_in_seconds` and the next attempt's number count when it is queued again."""

    status: Status
    attempt: int
    lost: int
    error: RunError | None = None
    retry_in_seconds: float | None = None
    ending: Ending | None = None


def decide(
    standing: Standing,
    end: End,
    error: RunError | None,
    retry: RetryPolicy,
    jitter: float,
    *,
    killed: Ending | None = None,
) -> Verdict:
    """What comes after an attempt: only retryable errors are retried; a wish to cancel wins over any retry.

    Where an attempt may have committed without anybody knowing, the next one asks first (RELIABILITY, rule 9);
    `killed` is how the run is to end that was ended by force.
    """
    verdict = Verdict(Status.SUCCEEDED, standing.attempt, standing.lost, error)
    if end is End.SUCCEEDED:
        return verdict
    if standing.ending is not None:
        return _asked(standing, standing.ending, end, error)
    ending = CANCELLED if end in UNKNOWN and standing.cancel_requested else killed
    if ending is not None:
        return replace(verdict, status=Status.QUEUED, retry_in_seconds=0.0, ending=ending)
    if end is End.TIMED_OUT:
        return replace(verdict, status=Status.TIMED_OUT)
    if end is End.CANCELLED or standing.cancel_requested:
        return replace(verdict, status=Status.CANCELLED, error=None)
    if end is End.HANDED_BACK:
        return replace(verdict, status=Status.QUEUED, retry_in_seconds=0.0)
    if end is End.LOST:
        return _after_loss(standing, error)
    failures = standing.attempt - standing.lost
    if error is None or not error.retryable or failures >= retry.attempts:
        return replace(verdict, status=Status.FAILED)
    delay = pause_seconds(retry, failures, jitter)
    return replace(verdict, status=Status.QUEUED, attempt=standing.attempt + 1, retry_in_seconds=delay)


def _asked(standing: Standing, ending: Ending, end: End, error: RunError | None) -> Verdict:
    """The destinations do not hold everything, or they could not be asked: then again, but not for ever."""
    verdict = Verdict(ending.status, standing.attempt, standing.lost, ending.error)
    if end is End.CANCELLED:
        return verdict
    if end is End.HANDED_BACK:
        return replace(verdict, status=Status.QUEUED, retry_in_seconds=0.0, ending=ending)
    if end is End.LOST or end is End.KILLED or (error is not None and error.retryable):
        again = _after_loss(standing, error)
        if again.status is Status.QUEUED:
            return replace(again, attempt=standing.attempt, ending=ending)
    return replace(verdict, error=error or ending.error)


def _after_loss(standing: Standing, error: RunError | None) -> Verdict:
    lost = standing.lost + 1
    if lost >= LOSS_LIMIT:
        return Verdict(Status.FAILED, standing.attempt, lost, error)
    delay = 0.0 if lost == 1 else LOSS_DELAY_SECONDS * 2.0 ** (lost - 2)
    return Verdict(Status.QUEUED, standing.attempt + 1, lost, error, delay)
