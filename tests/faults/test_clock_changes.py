"""Cron lines over every clock change of every zone from 2024 to 2030 fire when an independent oracle says so."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest

from services.scheduler.fires import Cron
from tests.faults.fires_oracle import fires_in, walk

pytestmark = pytest.mark.faults

# So many clock changes and cron lines at each of the tries: 500 in `make test`, 100 times 500 in `make test-faults`.
CHANGES, LINES = 50, 10
DAY, WEEK = timedelta(days=1), timedelta(weeks=1)


@cache
def changes_of(name: str) -> list[datetime]:
    """The days from 2024 to 2030 on which the zone's offset changes; no zone changes twice in a week."""
    zone, first = ZoneInfo(name), datetime(2024, 1, 1, tzinfo=UTC)

    def differ(start: datetime, end: datetime) -> bool:
        return start.astimezone(zone).utcoffset() != end.astimezone(zone).utcoffset()

    weeks = [week for number in range(366) if differ(week := first + number * WEEK, week + WEEK)]
    return [day for week in weeks for number in range(7) if differ(day := week + number * DAY, day + DAY)]


def zones_that_change() -> Iterator[str]:
    """Each of them, in an order that is no alphabet's."""
    names = sorted(available_timezones())
    random.Random(0).shuffle(names)
    return (name for name in names if changes_of(name))


def a_line(chance: random.Random) -> str:
    minute = chance.choice(["*", "*/15", "*/7", "0", "30", "5,45", "0,30", "59"])
    hour = chance.choice(["*", "*/2", "*/5", "0", "1", "2", "3", "0,2", "1,2,3", "23"])
    day, month = chance.choice(["*", "*", "*", "28,29,30,31", "*/2"]), chance.choice(["*", "*", "3,10", "*/3"])
    return f"{minute} {hour} {day} {month} {chance.choice(['*', '*', '0', '0,6'])}"


@pytest.mark.tries(1, 100)
def test_clock_changes_in_every_zone_agree_with_the_oracle(seed: int, chance: random.Random) -> None:
    names = list(islice(cycle_of(zones_that_change), seed * CHANGES, (seed + 1) * CHANGES))
    fired = 0
    for name in names:
        zone, change = ZoneInfo(name), chance.choice(changes_of(name))
        start = change - timedelta(hours=chance.randrange(30), minutes=chance.randrange(60))
        end = start + 3 * DAY
        ticks = walk(zone, start, end)
        for line in (a_line(chance) for _ in range(LINES)):
            fires = fires_between(Cron(line, zone), start, end)
            assert fires == fires_in(ticks, line, start, end), (line, name, start)
            fired += len(fires)
    assert fired > 1000


def fires_between(cron: Cron, start: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda fire: fire < end, cron.after(start)))


def cycle_of(begin: Callable[[], Iterator[str]]) -> Iterator[str]:
    """Again and again."""
    while True:
        yield from begin()
