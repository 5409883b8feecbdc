"""Backfills, domain: a period cut into slots, and how a backfill ends."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.run import RunError
from dataaggregator.errors import Conflict, FieldError, Invalid
from services.scheduler.runs import domain as runs

MOST_SLOTS = 10_000
MOST_AT_ONCE = 100
YEARS = range(1900, 3000)


class Status(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class SlotStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Slot:
    """One interval of a backfill, and the run that was asked for it last."""

    interval_start: datetime
    interval_end: datetime
    status: SlotStatus = SlotStatus.QUEUED
    run_id: UUID | None = None


@dataclass(frozen=True)
class Progress:
    """How many slots there are, and how many of them are in which state."""

    slots: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int

    def end(self) -> Status | None:
        """How a backfill ends with them; None while a slot is open. What was cancelled one by one is missing."""
        if self.queued or self.running:
            return None
        return Status.SUCCEEDED if self.succeeded == self.slots else Status.FAILED


@dataclass(frozen=True)
class Backfill:
    """A period of a pipeline that is loaded again, by the version it had. `definition` is as a run carries it."""

    id: UUID
    workspace_id: UUID
    pipeline_id: UUID
    pipeline_name: str
    pipeline_version: int
    definition: Mapping[str, Any]
    parameters: Mapping[str, Any]
    start: datetime
    end: datetime
    interval: Duration
    concurrency: int
    overwrite: bool
    created_at: datetime
    created_by: UUID | None
    status: Status = Status.RUNNING
    cancel_requested_at: datetime | None = None
    finished_at: datetime | None = None
    error: RunError | None = None

    def ended_with(self, progress: Progress) -> Status | None:
        """As the progress says, but for one that was cancelled before all slots were loaded."""
        end = progress.end()
        return Status.CANCELLED if end is Status.FAILED and self.cancel_requested_at is not None else end

    def must_not_have_ended(self) -> None:
        if self.status is not Status.RUNNING:
            raise Conflict("backfill-ended", f"The backfill has already ended: {self.status}.")

    def must_lack_slots(self) -> None:
        if self.status is Status.RUNNING:
            raise Conflict("backfill-not-ended", "The backfill has not ended yet; cancel it or wait.")
        if self.status is Status.SUCCEEDED:
            raise Conflict("backfill-succeeded", "Every slot of the backfill is loaded: there is none to try again.")


def cut(start: datetime, end: datetime, interval: Duration) -> Sequence[Slot]:
    """The slots of [start, end), each as long as the interval in real time but the last, which ends with the period.

    Raises Invalid naming everything that is wrong with the period.
    """
    if wrong := [*_wrong(start, end, interval)]:
        raise Invalid("body-invalid", "Such a period cannot be cut into slots.", errors=wrong)
    length = timedelta(seconds=interval.seconds)
    begins = [start + n * length for n in range(-((start - end) // length))]
    return [Slot(begin, min(begin + length, end)) for begin in begins]


def _wrong(start: datetime, end: datetime, interval: Duration) -> Iterator[FieldError]:
    for field, moment in (("from", start), ("to", end)):
        if moment.year not in YEARS:
            yield FieldError(field, f"should lie in the years {YEARS.start} to {YEARS.stop - 1}", "time")
    if start >= end:
        yield FieldError("to", "should lie behind from: rows are loaded from there on and before this", "period")
    if interval.seconds < 1:
        yield FieldError("interval", "at least one second", "duration")
    elif (end - start) / timedelta(seconds=interval.seconds) > MOST_SLOTS:
        message = f"makes more than {MOST_SLOTS} slots of the period: choose a longer one, or a shorter period"
        yield FieldError("interval", message, "slots")


def slot_status(run: runs.Run) -> SlotStatus:
    """What becomes of a slot when its run has ended."""
    ends = {runs.Status.SUCCEEDED: SlotStatus.SUCCEEDED, runs.Status.CANCELLED: SlotStatus.CANCELLED}
    return ends.get(run.status, SlotStatus.FAILED)
