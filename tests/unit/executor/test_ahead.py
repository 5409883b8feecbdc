"""How many runs an executor claims beyond its slots: some while runs are short, none that would have to wait."""

from typing import Any, cast

import pytest

from dataaggregator.bus.signals import Signal
from dataaggregator.ids import new_id
from services.executor.attempt import Attempt
from services.executor.room import Memory, Room
from services.executor.worker import AHEAD, SHORT_SECONDS, Worker

SLOTS = 2


def worker(usual_seconds: float | None, *in_slots: float) -> Worker:
    """One that has seen runs take so long, with runs at work that have had their slots for so long."""
    doors: Any = None
    made = Worker(doors, Room(SLOTS, Memory(1, 1, 1)), Signal("nobody"))
    if usual_seconds is not None:
        made._usual_seconds = usual_seconds
    for seconds in in_slots:
        made._at_work[new_id()] = cast("Attempt", type("AtWork", (), {"seconds_in_slot": seconds}))
        made._performing += 1
    return made


def test_while_runs_are_short_some_are_claimed_for_each_slot() -> None:
    assert worker(0.03, 0.01, 0.02)._free() == SLOTS + SLOTS * AHEAD - 2


@pytest.mark.parametrize(
    ("usual", "in_slots"),
    [(None, (0.01,)), (SHORT_SECONDS, (0.01,)), (0.03, (SHORT_SECONDS,))],
    ids=["nothing is known", "runs are long", "one at work is long"],
)
def test_where_a_run_would_have_to_wait_only_free_slots_are_filled(
    usual: float | None, in_slots: tuple[float, ...]
) -> None:
    assert worker(usual, *in_slots)._free() == SLOTS - len(in_slots)


@pytest.mark.parametrize(
    ("more_wait", "in_slots", "crowded"),
    [(True, 3, True), (True, SLOTS, False), (False, 3, False)],
    ids=["more wait here and there", "all have slots", "none waits elsewhere"],
)
def test_an_end_is_told_later_only_where_more_runs_wait(more_wait: bool, in_slots: int, crowded: bool) -> None:
    made = worker(0.03, *[0.01] * in_slots)
    made._more_wait = more_wait
    assert made._crowded is crowded


def test_the_end_of_a_long_run_is_told_at_once() -> None:
    made = worker(SHORT_SECONDS, 0.01, 0.01, 0.01)
    made._more_wait = True
    assert not made._crowded
