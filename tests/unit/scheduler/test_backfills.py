"""A period is cut into slots without a gap or an overlap, and a backfill ends as its slots have."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataaggregator.contracts.durations import Duration
from dataaggregator.errors import Invalid
from dataaggregator.ids import new_id
from services.scheduler.backfills.domain import MOST_SLOTS, Backfill, Progress, Status, cut

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@given(
    st.datetimes(datetime(1900, 1, 2), datetime(2900, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 (a zone is put on)
    st.timedeltas(timedelta(microseconds=1), timedelta(days=400)),
    st.integers(1, 500),
)
def test_the_slots_of_a_period_are_the_period(start: datetime, length: timedelta, parts: int) -> None:
    seconds = max(1.0, round(length.total_seconds() / parts, 3))
    slots = cut(start, start + length, Duration(f"{seconds}s"))
    assert (slots[0].interval_start, slots[-1].interval_end) == (start, start + length)
    assert [one.interval_end for one in slots[:-1]] == [one.interval_start for one in slots[1:]]
    lengths = {one.interval_end - one.interval_start for one in slots[:-1]}
    assert len(lengths) <= 1
    assert timedelta() < slots[-1].interval_end - slots[-1].interval_start <= max(lengths, default=length)


def test_a_day_is_24_hours_also_where_a_clock_changes() -> None:
    zurich = ZoneInfo("Europe/Zurich")
    start, end = (datetime(2026, 3, day, tzinfo=zurich).astimezone(UTC) for day in (28, 31))
    slots = cut(start, end, Duration("1d"))
    assert [(one.interval_end - one.interval_start) for one in slots] == [DAY, DAY, DAY - timedelta(hours=1)]


def test_everything_that_is_wrong_with_a_period_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        cut(datetime(3001, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), Duration("0.5s"))
    assert [(one.field, one.code) for one in caught.value.errors] == [
        ("from", "time"), ("to", "time"), ("to", "period"), ("interval", "duration"),
    ]  # fmt: skip
    with pytest.raises(Invalid) as caught:
        cut(JANUARY, JANUARY, Duration("1d"))
    assert [(one.field, one.code) for one in caught.value.errors] == [("to", "period")]


def test_there_are_not_more_slots_than_can_be_looked_after() -> None:
    most = timedelta(seconds=MOST_SLOTS)
    assert len(cut(JANUARY, JANUARY + most, Duration("1s"))) == MOST_SLOTS
    with pytest.raises(Invalid) as caught:
        cut(JANUARY, JANUARY + most + timedelta(microseconds=1), Duration("1s"))
    assert [(one.field, one.code) for one in caught.value.errors] == [("interval", "slots")]


BACKFILL = Backfill(
    id=new_id(), workspace_id=new_id(), pipeline_id=new_id(), pipeline_name="p", pipeline_version=1, definition={},
    parameters={}, start=JANUARY, end=JANUARY + DAY, interval=Duration("1h"), concurrency=1, overwrite=False,
    created_at=JANUARY, created_by=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("counts", "end", "if_cancelled"),
    [
        ((3, 1, 0, 2, 0, 0), None, None),
        ((3, 0, 1, 1, 1, 0), None, None),
        ((3, 0, 0, 3, 0, 0), Status.SUCCEEDED, Status.SUCCEEDED),
        ((3, 0, 0, 2, 1, 0), Status.FAILED, Status.CANCELLED),
        ((3, 0, 0, 2, 0, 1), Status.FAILED, Status.CANCELLED),
    ],
)
def test_a_backfill_ends_when_its_last_slot_has(
    counts: tuple[int, ...], end: Status | None, if_cancelled: Status | None
) -> None:
    progress = Progress(*counts)
    assert BACKFILL.ended_with(progress) is end
    assert replace(BACKFILL, cancel_requested_at=JANUARY).ended_with(progress) is if_cancelled
