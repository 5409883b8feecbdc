"""Scheduler, pure: when a trigger fires. Cron by the zone's wall clock (RELIABILITY, rule 13), `every` by real time.

cronsim only enumerates wall-clock times without a zone; what a clock change does to them is decided here:

* a *fixed* time (neither minute nor hour starts with `*`) fires once a day whatever the clock does: in the spring
  gap at the first instant that exists again, in the autumn fold at the first of the two;
* a *wildcard* follows real time: it fires at each instant whose wall clock matches, so both autumn hours count and a
  wall-clock hour that does not exist is not made up.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from dataaggregator.contracts.triggers import AfterTrigger, CronTrigger, EveryTrigger, FilesTrigger, WebhookTrigger

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Cron:
    """Five fields (minute hour day month weekday) read in `zone`."""

    expression: str
    zone: ZoneInfo

    def after(self, instant: datetime) -> Iterator[datetime]:
        """The fires strictly after `instant`, ascending, in UTC; ends only when the expression can never match."""
        minute, hour = self.expression.split()[:2]
        instant = instant.replace(microsecond=0)
        wildcard = minute.startswith("*") or hour.startswith("*")
        return self._wildcard(instant) if wildcard else self._fixed(instant)

    def _fixed(self, instant: datetime) -> Iterator[datetime]:
        # A day back: a wall-clock time before `instant`'s may still fire after it (the gap moves it forward).
        last = instant
        for wall in CronSim(self.expression, _wall(instant - _DAY, self.zone)):
            fire = _first_valid(wall, self.zone)
            if fire > last:  # two times inside one gap are one instant; one in the fold may already be past
                last = fire
                yield fire

    def _wildcard(self, instant: datetime) -> Iterator[datetime]:
        """Walk from clock change to clock change: between two of them wall time and real time run alike."""
        offset = _offset(instant, self.zone)
        walls = CronSim(self.expression, _naive(instant + offset))
        last = instant
        while (wall := next(walls, None)) is not None:
            fire = (wall - offset).replace(tzinfo=UTC)
            change = _first_change(last, fire, self.zone)
            if change is None:
                yield fire
                last = fire
            else:
                offset = _offset(change, self.zone)
                walls = CronSim(self.expression, _naive(change + offset - _SECOND))
                last = change


@dataclass(frozen=True)
class Every:
    """Fires at anchor + n * interval, n = 1, 2, …; real time, so a clock change does not touch it."""

    interval: timedelta
    anchor: datetime

    def after(self, instant: datetime) -> Iterator[datetime]:
        passed = (instant - self.anchor) // self.interval
        return (self.anchor + n * self.interval for n in count(max(passed, 0) + 1))


@dataclass(frozen=True)
class Told:
    """Nobody knows when: others' runs, calls or files make it fire."""

    def after(self, instant: datetime) -> Iterator[datetime]:
        del instant
        return iter(())


@dataclass(frozen=True)
class Within:
    """The fires of another one from a moment on and up to another, both included."""

    fires: "Cron | Every"
    start: datetime | None
    end: datetime | None

    def after(self, instant: datetime) -> Iterator[datetime]:
        if self.start is not None:
            instant = max(instant, self.start - _SECOND / 1_000_000)
        found = self.fires.after(instant)
        if self.start is not None:  # a cron line is read by whole seconds
            found = (fire for fire in found if fire >= self.start)
        return found if self.end is None else takewhile(self._not_over, found)

    def _not_over(self, fire: datetime) -> bool:
        return self.end is None or fire <= self.end


AnyTrigger = CronTrigger | EveryTrigger | AfterTrigger | WebhookTrigger | FilesTrigger
Fires = Cron | Every | Within | Told


def fires_of(trigger: AnyTrigger, anchor: datetime) -> Fires:
    """When a trigger fires; `anchor` is when its schedule was made."""
    if isinstance(trigger, AfterTrigger | WebhookTrigger | FilesTrigger):
        return Told()
    if isinstance(trigger, CronTrigger):
        fires: Cron | Every = Cron(trigger.cron, ZoneInfo(trigger.timezone))
    else:
        interval = timedelta(seconds=trigger.every.seconds)
        fires = Every(interval, anchor if trigger.start is None else trigger.start - interval)
    return fires if trigger.start is None and trigger.end is None else Within(fires, trigger.start, trigger.end)


def delay_of(trigger: AnyTrigger, who: bytes) -> timedelta:
    """How much later than its slot a trigger is decided on: by `who` it is somewhere below its jitter, always there."""
    if isinstance(trigger, AfterTrigger | WebhookTrigger | FilesTrigger) or trigger.jitter is None:
        return timedelta()
    return timedelta(seconds=trigger.jitter.seconds * zlib.crc32(who) / 2**32)


def fingerprint(trigger: AnyTrigger) -> str:
    """What makes two triggers the same schedule: when they fire, not what they do about missed slots."""
    if isinstance(trigger, AfterTrigger):
        return f"after {', '.join(sorted(trigger.after))} {trigger.on}"
    if isinstance(trigger, WebhookTrigger):
        return "webhook"
    if isinstance(trigger, FilesTrigger):
        return f"files {trigger.files.connector} {trigger.files.stream}"
    bounds = "".join(
        f" {word} {moment.isoformat()}"
        for word, moment in (("from", trigger.start), ("to", trigger.end))
        if moment is not None
    )
    if isinstance(trigger, CronTrigger):
        return f"cron {' '.join(trigger.cron.split())} {trigger.timezone}{bounds}"
    return f"every {trigger.every.seconds:g} seconds{bounds}"


def check_cron(expression: str) -> str | None:
    """What is wrong with a cron expression, or None."""
    if len(expression.split()) != 5:
        return "five fields are needed: minute hour day-of-month month day-of-week"
    try:
        possible = next(CronSim(expression, datetime(2024, 1, 1)), None)  # noqa: DTZ001 (wall-clock time)
    except CronSimError as error:
        return str(error)
    return None if possible else "this date never comes"


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _first_valid(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a wall-clock time: the first of two, or the end of the gap it falls into."""
    local = wall.replace(tzinfo=zone)  # fold=0
    instant = local.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return instant
    # In a gap fold=0 reads the old offset, so `instant` lies after the change by less than the gap is long.
    change = _first_change(instant - _DAY, instant, zone)
    return change or instant


def _first_change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime | None:
    """The first instant in (start, end] with another UTC offset than `start`'s (no zone changes twice in a day)."""
    before = _offset(start, zone)
    low = start
    while low < end:
        high = min(low + _DAY, end)
        if _offset(high, zone) != before:
            return _bisect(low, high, before, zone)
        low = high
    return None


def _bisect(low: datetime, high: datetime, before: timedelta, zone: ZoneInfo) -> datetime:
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high
