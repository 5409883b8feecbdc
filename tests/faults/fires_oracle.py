"""When a cron line fires, found minute by minute over real time: it knows nothing of cronsim or of bisection."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


@dataclass(frozen=True)
class Tick:
    """A minute of real time: what the wall clock shows, and what it has just jumped over."""

    instant: datetime
    wall: datetime
    skipped: tuple[datetime, ...]


def walk(zone: ZoneInfo, start: datetime, end: datetime) -> list[Tick]:
    """Each minute up to `end`, from two days before `start` on: what is shown twice must be seen the first time."""
    ticks = []
    instant = start.replace(second=0, microsecond=0) - timedelta(days=2)
    previous = (instant - MINUTE).astimezone(zone).replace(tzinfo=None)
    while instant < end:
        wall = instant.astimezone(zone).replace(tzinfo=None, fold=0)
        skipped = []
        while (previous := previous + MINUTE) < wall:
            skipped.append(previous)
        ticks.append(Tick(instant, wall, tuple(skipped)))
        previous = wall
        instant += MINUTE
    return ticks


def fires_in(ticks: list[Tick], expression: str, start: datetime, end: datetime) -> list[datetime]:
    """Those in (start, end): a fixed time once, where the clock jumped over it at once; a wildcard by real time."""
    matches = _matcher(expression)
    minute, hour = expression.split()[:2]
    wildcard = minute.startswith("*") or hour.startswith("*")
    fires: set[datetime] = set()
    seen: set[datetime] = set()
    for tick in ticks:
        if not wildcard and any(matches(wall) for wall in tick.skipped):
            fires.add(tick.instant)
        if matches(tick.wall) and (wildcard or tick.wall not in seen):
            fires.add(tick.instant)
        seen.add(tick.wall)
    return sorted(fire for fire in fires if start < fire < end)


def _matcher(expression: str) -> Callable[[datetime], bool]:
    minutes, hours, days, months, weekdays = (
        _numbers(part, low, high) for part, (low, high) in zip(expression.split(), RANGES, strict=True)
    )
    parts = expression.split()
    either = not parts[2].startswith("*") and not parts[4].startswith("*")

    def matches(wall: datetime) -> bool:
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        by_day, by_weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return by_day or by_weekday if either else by_day and by_weekday

    return matches


def _numbers(part: str, low: int, high: int) -> set[int]:
    if part.startswith("*"):
        return set(range(low, high + 1, int(part[2:] or 1)))
    return {int(number) for number in part.split(",")}
