"""Fires of cron and interval triggers, held against an oracle that walks every minute of real time."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from pydantic import TypeAdapter

from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.triggers import EveryTrigger, Trigger
from services.scheduler.fires import AnyTrigger, Cron, Every, check_cron, delay_of, fires_of

MINUTE = timedelta(minutes=1)
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


def oracle(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Every fire in (start, end): minute by minute over real time, knowing nothing of cronsim or of bisection."""
    matches = _matcher(expression)
    minute, hour = expression.split()[:2]
    wildcard = minute.startswith("*") or hour.startswith("*")
    fires: set[datetime] = set()
    seen: set[datetime] = set()
    instant = start - timedelta(days=2)
    previous = (instant - MINUTE).astimezone(zone).replace(tzinfo=None)
    while instant < end:
        wall = instant.astimezone(zone).replace(tzinfo=None, fold=0)
        if not wildcard:
            skipped = previous + MINUTE
            while skipped < wall:  # the clock jumped: what it jumped over fires now
                if matches(skipped):
                    fires.add(instant)
                skipped += MINUTE
        if matches(wall) and (wildcard or wall not in seen):
            fires.add(instant)
        seen.add(wall)
        previous = wall
        instant += MINUTE
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


def _changes(zone: ZoneInfo) -> list[datetime]:
    """Days between 2024 and 2030 on which the zone's offset changes."""
    day, end, found = datetime(2024, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC), []
    while day < end:
        following = day + timedelta(days=1)
        if day.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            found.append(day)
        day = following
    return found


def _expression(chance: random.Random) -> str:
    minute = chance.choice(["*", "*/15", "*/7", "0", "30", "5,45", "0,30", "59"])
    hour = chance.choice(["*", "*/2", "*/5", "0", "1", "2", "3", "0,2", "1,2,3", "23"])
    day, month = chance.choice(["*", "*", "*", "28,29,30,31", "*/2"]), chance.choice(["*", "*", "3,10", "*/3"])
    return f"{minute} {hour} {day} {month} {chance.choice(['*', '*', '0', '0,6'])}"


def test_clock_changes_in_every_zone_agree_with_the_oracle() -> None:
    chance = random.Random(20260328)
    zones = [ZoneInfo(name) for name in sorted(available_timezones())]
    changing = [(zone, days) for zone in zones if (days := _changes(zone))]
    checked = 0
    for _ in range(500):
        zone, days = chance.choice(changing)
        start = chance.choice(days) - timedelta(hours=chance.randrange(30), minutes=chance.randrange(60))
        end, expression = start + timedelta(days=3), _expression(chance)
        fires = []
        for fire in Cron(expression, zone).after(start):
            if fire >= end:
                break
            fires.append(fire)
        assert fires == oracle(expression, zone, start, end), (expression, zone.key, start)
        checked += len(fires)
    assert checked > 1000


def test_a_fixed_time_fires_once_in_the_autumn_and_at_the_first_valid_instant_in_the_spring() -> None:
    zurich = ZoneInfo("Europe/Zurich")
    autumn = Cron("30 2 * * *", zurich).after(datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert list(islice(autumn, 2)) == [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        datetime(2026, 10, 26, 1, 30, tzinfo=UTC),
    ]
    spring = Cron("30 2 * * *", zurich).after(datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert list(islice(spring, 2)) == [
        datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
        datetime(2026, 3, 30, 0, 30, tzinfo=UTC),
    ]


def test_a_wildcard_fires_every_real_interval() -> None:
    fires = list(
        islice(Cron("*/30 * * * *", ZoneInfo("Europe/Zurich")).after(datetime(2026, 10, 25, 0, tzinfo=UTC)), 6)
    )
    assert {b - a for a, b in pairwise(fires)} == {timedelta(minutes=30)}


def test_two_times_inside_one_gap_are_one_fire() -> None:
    fires = Cron("0,30 2 * * *", ZoneInfo("Europe/Zurich")).after(datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert list(islice(fires, 2)) == [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 30, 0, tzinfo=UTC)]


def test_an_instant_in_the_second_autumn_hour_never_leads_back() -> None:
    start = datetime(2026, 10, 25, 1, 45, 10, 5, tzinfo=UTC)  # 02:45 the second time
    assert next(Cron("50 2 * * *", ZoneInfo("Europe/Zurich")).after(start)) == datetime(2026, 10, 26, 1, 50, tzinfo=UTC)


def test_every_counts_from_its_anchor() -> None:
    anchor = datetime(2026, 1, 1, tzinfo=UTC)
    every = Every(timedelta(minutes=10), anchor)
    assert next(iter(every.after(anchor))) == anchor + timedelta(minutes=10)
    assert next(iter(every.after(anchor + timedelta(minutes=10)))) == anchor + timedelta(minutes=20)
    assert next(iter(every.after(anchor - timedelta(days=1)))) == anchor + timedelta(minutes=10)


NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("trigger", "fires"),
    [
        ({"every": "1h", "start": "2026-05-04T12:00:00Z"}, [0, 1, 2]),
        ({"every": "1h", "start": "2026-05-04T12:00:00Z", "end": "2026-05-04T13:00:00Z"}, [0, 1]),
        ({"cron": "0 * * * *", "start": "2026-05-04T12:00:00Z"}, [0, 1, 2]),
        ({"cron": "0 * * * *", "start": "2026-05-04T12:00:00.5Z"}, [1, 2, 3]),
        ({"cron": "0 * * * *", "end": "2026-05-04T12:59:59Z"}, [-24, -23, -22]),
        ({"cron": "0 13 * * *", "start": "2026-05-04T12:00:00Z", "end": "2026-05-05T12:00:00Z"}, [1]),
        ({"after": ["another"]}, []),
    ],
)
def test_a_trigger_fires_from_its_start_to_its_end(trigger: dict[str, Any], fires: list[int]) -> None:
    checked = TypeAdapter[AnyTrigger](Trigger).validate_python(trigger)
    found = fires_of(checked, NOON - timedelta(days=1)).after(NOON - timedelta(days=1, seconds=1))
    assert list(islice(found, 3)) == [NOON + timedelta(hours=hours) for hours in fires]
    after_all = fires_of(checked, NOON).after(NOON + timedelta(days=2))
    assert [fire for fire in islice(after_all, 3) if "end" in trigger] == []


def test_those_that_share_their_times_are_late_by_different_times_and_always_the_same() -> None:
    trigger = EveryTrigger(every=Duration.check("1h"), jitter=Duration.check("10m"))
    delays = [delay_of(trigger, b"pipeline %d" % number) for number in range(1000)]
    assert delays == [delay_of(trigger, b"pipeline %d" % number) for number in range(1000)]
    assert timedelta() <= min(delays) < timedelta(minutes=1)
    assert timedelta(minutes=9) < max(delays) < timedelta(minutes=10)


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("15 * * * *", None),
        ("0 9 * * MON-FRI", None),
        ("* * * *", "five fields"),
        ("61 * * * *", "Bad minute"),
        ("0 0 31 2 *", "Bad day-of-month"),
        ("", "five fields"),
    ],
)
def test_what_is_wrong_with_an_expression_is_named(expression: str, wrong: str | None) -> None:
    said = check_cron(expression)
    assert said is None if wrong is None else wrong in (said or "")
