"""By when a pipeline should have succeeded: by its schedules or by wish."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from dataaggregator.contracts.triggers import Trigger
from dataaggregator.ids import new_id
from services.scheduler.fires import AnyTrigger
from services.scheduler.pipelines.lateness import Expectation, Success
from services.scheduler.pipelines.schedules import Schedule

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LONG_AGO = MIDNIGHT - timedelta(days=30)
TRIGGER: TypeAdapter[AnyTrigger] = TypeAdapter(Trigger)


def schedule(trigger: dict[str, Any], anchor: datetime = LONG_AGO, delay: timedelta = timedelta()) -> Schedule:
    return Schedule(new_id(), new_id(), new_id(), TRIGGER.validate_python(trigger), anchor, None, None, delay)


def expected(
    *schedules: Schedule, ended: datetime | None = None, took: timedelta = timedelta(), within: timedelta | None = None
) -> datetime | None:
    last = None if ended is None else Success(ended - took, ended)
    return Expectation(schedules, within, LONG_AGO, last, 10 * MINUTE).moment()


@pytest.mark.parametrize(
    ("trigger", "ended", "took", "by"),
    [
        ({"cron": "0 0 * * *"}, 2 * HOUR, 2 * HOUR, timedelta(days=1, hours=2 + 2.4)),
        ({"every": "10m"}, MINUTE, MINUTE, timedelta(minutes=10 + 10 + 1)),
        ({"cron": "0 0 * * 1"}, MINUTE, MINUTE, timedelta(days=7.7, minutes=1)),
        ({"every": "1h", "end": "2026-03-02T01:30:00Z"}, MINUTE, timedelta(), timedelta(hours=1, minutes=10)),
    ],
)
def test_the_next_fire_may_take_as_long_as_the_last_run_and_a_tenth_of_the_period_or_the_grace(
    trigger: dict[str, Any], ended: timedelta, took: timedelta, by: timedelta
) -> None:
    assert expected(schedule(trigger), ended=MIDNIGHT + ended, took=took) == MIDNIGHT + by


def test_of_several_schedules_the_earliest_counts_each_with_its_delay() -> None:
    slow, fast = schedule({"every": "1d"}), schedule({"every": "1h"}, delay=3 * MINUTE)
    assert expected(slow, fast, ended=MIDNIGHT) == MIDNIGHT + HOUR + 13 * MINUTE


def test_one_that_never_succeeded_counts_from_when_its_triggers_began() -> None:
    assert expected(schedule({"every": "1h"})) == LONG_AGO + HOUR + 10 * MINUTE


def test_a_trigger_is_not_late_for_what_it_would_have_fired_before_it_was_there() -> None:
    added = MIDNIGHT + timedelta(days=3)
    assert expected(schedule({"cron": "0 * * * *"}, anchor=added), ended=MIDNIGHT) == added + HOUR + 10 * MINUTE


def test_a_wish_counts_from_the_last_success_and_has_no_grace() -> None:
    assert expected(schedule({"every": "1h"}), ended=MIDNIGHT, within=2 * HOUR) == MIDNIGHT + 2 * HOUR


def test_where_no_clock_says_so_nothing_is_expected() -> None:
    assert expected(ended=MIDNIGHT) is None
    assert expected(schedule({"after": ["other"]}), ended=MIDNIGHT) is None
    assert expected(schedule({"every": "1h", "end": "2026-03-01T00:00:00Z"}), ended=MIDNIGHT) is None
