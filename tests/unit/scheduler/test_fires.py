"""Fires of cron and interval triggers; `tests/faults/test_clock_changes.py` holds them against an oracle."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import TypeAdapter

from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.triggers import EveryTrigger, Trigger
from services.scheduler.fires import AnyTrigger, Cron, Every, check_cron, delay_of, fires_of


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
