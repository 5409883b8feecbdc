"""Pipelines, lateness: by when one should have succeeded, by its schedules or by wish (ADR 0045); pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from services.scheduler.pipelines.schedules import Schedule

SHARE_OF_PERIOD = 10
"""A tenth of the time between two fires is no lateness yet, where that is more than the grace."""


@dataclass(frozen=True)
class Success:
    """The last run that succeeded: when it was asked for, and when it ended."""

    queued_at: datetime
    finished_at: datetime


@dataclass(frozen=True)
class Expectation:
    """What a success is expected by: `since` is when the triggers began to count."""

    schedules: Iterable[Schedule]
    within: timedelta | None
    since: datetime
    last: Success | None
    grace: timedelta

    def moment(self) -> datetime | None:
        """None where no clock says so.

        By wish: so long after the last success. By a schedule: with its next fire a run begins, which may take as long
        as the last good one did, and the grace.
        """
        begun, took = self.since, timedelta()
        if self.last is not None and self.last.finished_at > self.since:
            begun, took = self.last.finished_at, self.last.finished_at - self.last.queued_at
        if self.within is not None:
            return begun + self.within
        by_schedule = (self._by(schedule, begun) for schedule in self.schedules)
        found = [moment + took for moment in by_schedule if moment is not None]
        return min(found, default=None)

    def _by(self, schedule: Schedule, begun: datetime) -> datetime | None:
        begun = max(begun, schedule.anchor_at)  # what it would have fired before it was there is nobody's fault
        match list(islice(schedule.fires.after(begun), 2)):
            case [fire, following]:
                return fire + schedule.delay + max(self.grace, (following - fire) / SHARE_OF_PERIOD)
            case [fire]:
                return fire + schedule.delay + self.grace
        return None
