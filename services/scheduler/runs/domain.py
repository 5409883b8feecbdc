"""Runs, domain: what a run is and which steps it may take. The table is drawn in docs/run-lifecycle.md."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from dataaggregator.contracts.priorities import Priority
from dataaggregator.contracts.run import DestinationOutcome, Replay, RunCounts, RunError
from dataaggregator.errors import Conflict


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"


class Fact(StrEnum):
    """What can be said about a run; all but `skipped` in the executor's words."""

    STARTED = "started"
    ATTEMPT_FAILED = "attempt_failed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"


STEPS: Mapping[tuple[Status, Fact], Status] = {
    (Status.QUEUED, Fact.STARTED): Status.RUNNING,
    (Status.QUEUED, Fact.FAILED): Status.FAILED,
    (Status.QUEUED, Fact.CANCELLED): Status.CANCELLED,
    (Status.QUEUED, Fact.TIMED_OUT): Status.TIMED_OUT,
    (Status.QUEUED, Fact.SKIPPED): Status.SKIPPED,
    (Status.RUNNING, Fact.ATTEMPT_FAILED): Status.QUEUED,
    (Status.RUNNING, Fact.SUCCEEDED): Status.SUCCEEDED,
    (Status.RUNNING, Fact.FAILED): Status.FAILED,
    (Status.RUNNING, Fact.CANCELLED): Status.CANCELLED,
    (Status.RUNNING, Fact.TIMED_OUT): Status.TIMED_OUT,
}

NOTHING_COUNTED = RunCounts()

ALONE = 0
"""The lane of a run that has none of its pipeline beside it."""

ENDED = frozenset(Status) - {Status.QUEUED, Status.RUNNING}


def allowing(definition: Mapping[str, Any], approved: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """A resolved pipeline whose run may change these alone: what an earlier one has made is not to be made again."""
    if list(definition.get("approved") or ()) == list(approved):
        return definition
    rest = {name: value for name, value in definition.items() if name != "approved"}
    return rest | {"approved": list(approved)} if approved else rest


@dataclass(frozen=True)
class Attempt:
    """One try of the executor; part of its run."""

    number: int
    executor: str
    started_at: datetime
    ended_at: datetime | None = None
    error: RunError | None = None


@dataclass(frozen=True)
class Asked:
    """What somebody or something asks for; `trigger` says who: manual, schedule, retry or replay.

    `run_id` is the id the run is to have, where the same may be asked twice and meant once.
    """

    trigger: str
    parameters: Mapping[str, Any]
    full_refresh: bool = False
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    parent_run_id: UUID | None = None
    run_id: UUID | None = None
    replay: Replay | None = None
    backfill_id: UUID | None = None
    priority: Priority | None = None
    """The pipeline's own where none is given."""


@dataclass(frozen=True)
class Outcome:
    """The executor's last word on a run."""

    counts: RunCounts
    balanced: bool | None
    destinations: tuple[DestinationOutcome, ...]
    warnings: tuple[str, ...]
    error: RunError | None


@dataclass(frozen=True)
class Run:
    """A run as asked for, with the mirror of its state.

    `handed_over_at` is when run.queued was said: until then it waits here for the run before it, and the executor
    knows nothing of it. Those of a pipeline that are handed over and not ended, beside its backfills', are each in a
    lane of their own, or one is alone in lane 0. `lane` is None of one that waits for any that is free.
    `definition` is the resolved pipeline as plain JSON.
    """

    id: UUID
    workspace_id: UUID
    pipeline_id: UUID
    pipeline_name: str
    pipeline_version: int
    asked: Asked
    definition: Mapping[str, Any]
    queued_at: datetime
    priority: Priority = "normal"
    lane: int | None = 0
    trace_id: str | None = None
    status: Status = Status.QUEUED
    handed_over_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    retry_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    counts: RunCounts = NOTHING_COUNTED
    progress: float | None = None
    balanced: bool | None = None
    destinations: tuple[DestinationOutcome, ...] = ()
    warnings: tuple[str, ...] = ()
    error: RunError | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def started(self, number: int, executor: str, at: datetime) -> "Run":
        """An attempt that was handed back begins again under its number: it was not spent."""
        status = self._step(Fact.STARTED)
        before = tuple(attempt for attempt in self.attempts if attempt.number != number)
        attempts = (*before, Attempt(number, executor, at))
        return replace(
            self, status=status, attempts=attempts, started_at=self.started_at or at, retry_at=None, error=None
        )

    def attempt_failed(self, error: RunError | None, at: datetime, retry_at: datetime | None) -> "Run":
        """Without `retry_at` there is no next attempt: the run's end follows."""
        if retry_at is None and self.status is Status.RUNNING:
            return replace(self, attempts=self._closed(at, error), error=error)
        status = self._step(Fact.ATTEMPT_FAILED)
        return replace(
            self, status=status, attempts=self._closed(at, error), retry_at=retry_at, progress=None, error=error
        )

    def finished(self, fact: Fact, outcome: Outcome, at: datetime) -> "Run":
        return replace(
            self,
            status=self._step(fact),
            attempts=self._closed(at, outcome.error),
            finished_at=at,
            retry_at=None,
            progress=1.0 if fact is Fact.SUCCEEDED else self.progress,
            counts=outcome.counts,
            balanced=outcome.balanced,
            destinations=outcome.destinations,
            warnings=outcome.warnings,
            error=outcome.error,
        )

    def skipped(self, error: RunError, at: datetime) -> "Run":
        """The scheduler's own word, for a run that was never handed over."""
        return replace(self, status=self._step(Fact.SKIPPED, handed_over=False), finished_at=at, error=error)

    def withdrawn(self, at: datetime) -> "Run":
        """Cancelled before it was handed over: nobody else needs to be asked."""
        status = self._step(Fact.CANCELLED, handed_over=False)
        return replace(self, status=status, cancel_requested_at=at, finished_at=at)

    def free_lane(self, taken: Collection[int], concurrency: int) -> int | None:
        """Where it may begin beside those at work; None if it has to wait."""
        if self.lane == ALONE:
            return None if taken else ALONE
        if ALONE in taken:
            return None
        return next((lane for lane in range(1, concurrency + 1) if lane not in taken), None)

    def handed_over(self, at: datetime, lane: int = ALONE) -> "Run":
        if self.ended or self.handed_over_at is not None:
            raise Conflict("run-state", "Only a waiting run is handed over.")
        return replace(self, handed_over_at=at, lane=lane)

    def allowed(self, approved: Sequence[Mapping[str, Any]]) -> "Run":
        """To begin now: it may change what is approved now, and not what was when it was asked for."""
        return replace(self, definition=allowing(self.definition, approved))

    def cancel_requested(self, at: datetime) -> "Run":
        self.must_not_have_ended()
        return self if self.cancel_requested_at else replace(self, cancel_requested_at=at)

    def must_not_have_ended(self) -> None:
        if self.ended:
            raise Conflict("run-ended", f"The run has already ended: {self.status}.")

    def must_have_ended(self) -> None:
        if not self.ended:
            raise Conflict("run-not-ended", f"The run has not ended yet, it is {self.status}; cancel it or wait.")

    def must_not_replay(self) -> None:
        if self.asked.replay is not None:
            detail = f"This run replayed rejected rows of {self.asked.parent_run_id}: replay those again."
            raise Conflict("replay-not-retried", detail)

    def must_not_backfill(self) -> None:
        if self.asked.backfill_id is not None:
            detail = f"This run loaded a slot of the backfill {self.asked.backfill_id}: retry that."
            raise Conflict("backfill-run-not-retried", detail)

    def _step(self, fact: Fact, *, handed_over: bool = True) -> Status:
        self.must_not_have_ended()
        if (self.handed_over_at is not None) != handed_over:
            raise Conflict("run-state", "What the executor has, the executor ends; what waits, the scheduler.")
        following = STEPS.get((self.status, fact))
        if following is None:
            raise Conflict("run-state", f"A run that is {self.status} cannot be {fact}.")
        return following

    def _closed(self, at: datetime, error: RunError | None) -> tuple[Attempt, ...]:
        if not self.attempts or self.attempts[-1].ended_at is not None:
            return self.attempts
        return (*self.attempts[:-1], replace(self.attempts[-1], ended_at=at, error=error))
