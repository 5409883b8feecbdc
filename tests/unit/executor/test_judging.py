"""What an attempt makes of a run process's last words, or of there being none."""

import asyncio
from typing import Any, Literal, cast

import pytest

from dataaggregator.contracts.ledger import Ledger
from dataaggregator.contracts.run import DestinationOutcome, RunCounts
from dataaggregator.dataplane.job import RunJob, RunOutcome
from dataaggregator.ids import new_id
from services.executor.attempt import ASKED_TO_STOP, Attempt, AttemptDoors, AttemptLimits, Stop
from services.executor.commands import run_error
from services.executor.domain import CANCELLED, End, Ending, Status
from services.executor.room import Memory, Room
from services.executor.store.runs import Run
from tests.integration.executor.place import a_definition, a_job

RUN = cast("Run", type("AnyRun", (), {"timeout_seconds": 5.0, "ending": None, "run_id": new_id()}))


def attempt() -> Attempt:
    anything: Any = None
    return Attempt(RUN, anything, anything, AttemptLimits(600.0))


def test_a_commit_that_nobody_could_ask_about_is_a_loss_not_a_failure() -> None:
    """Attempts may be spent, but the next one only looks into the destination's ledger."""
    unknown = run_error("commit-unknown", "no answer", retryable=True)
    destination = DestinationOutcome(connector="w", stream="s", status="failed", error=unknown)
    outcome = RunOutcome(
        status="failed",
        error=unknown,
        ledger=Ledger(run_id=new_id(), balanced=True),
        counts=RunCounts(),
        destinations=(destination,),
    )
    assert attempt()._judge(outcome).end is End.LOST


@pytest.mark.parametrize("status", ["succeeded", "cancelled", "failed"])
def test_what_the_run_process_told_counts_more_than_the_wish_to_stop(
    status: Literal["succeeded", "cancelled", "failed"],
) -> None:
    """It may have committed, or written down whole chunks, before it heard of that."""
    stopped = attempt()
    stopped._begun = True
    stopped.stop(Stop.CANCEL)
    outcome = RunOutcome(status=status, ledger=Ledger(run_id=new_id(), balanced=True), counts=RunCounts())
    ended = stopped._judge(outcome)
    assert (ended.end, ended.outcome, ended.ending) == (End(status), outcome, None)


async def test_a_run_process_is_asked_once_to_cancel_and_has_its_time_for_what_it_is_at() -> None:
    asked: list[str] = []

    class Asked:
        async def cancel(self) -> None:
            asked.append("the process")

        def tell(self, level: str, message: str) -> None:
            asked.append(message)

    at_work: Any = Asked()
    stopped = Attempt(RUN, at_work, at_work, AttemptLimits(600.0, cancel_grace_seconds=60.0))
    stopped._process = at_work
    assert [await stopped._has_to_end(Stop.CANCEL) for _ in range(3)] == [False] * 3
    assert asked == [ASKED_TO_STOP, "the process"]
    assert await stopped._has_to_end(Stop.STALL)
    assert stopped._asked_at is not None
    stopped._asked_at -= 60.0
    assert await stopped._has_to_end(Stop.CANCEL)


@pytest.mark.parametrize(
    ("why", "status"),
    [(Stop.CANCEL, Status.CANCELLED), (Stop.TIMEOUT, Status.TIMED_OUT), (Stop.STALL, Status.TIMED_OUT)],
)
def test_a_stop_by_force_is_told_only_after_asking_unless_nothing_had_begun(why: Stop, status: Status) -> None:
    before, after = attempt(), attempt()
    after._begun = True
    for stopped in (before, after):
        stopped.stop(why)
    assert before._judge(asyncio.CancelledError()).end == End(status)
    ended = after._judge(asyncio.CancelledError())
    assert ended.end is End.KILLED
    assert ended.ending is not None
    assert ended.ending.status is status


def test_a_run_handed_back_is_not_told_to_be_ended() -> None:
    stopped = attempt()
    stopped._begun = True
    stopped.stop(Stop.HAND_BACK)
    ended = stopped._judge(asyncio.CancelledError())
    assert (ended.end, ended.ending, ended.begun) == (End.HANDED_BACK, None, True)


async def test_a_run_that_was_claimed_ahead_and_gets_no_slot_is_given_back_and_has_spent_nothing() -> None:
    async def ready() -> RunJob:
        return a_job(a_definition())

    nobody: Any = None
    doors = AttemptDoors(pool=nobody, room=Room(0, Memory(1, 1, 1)), prepare=ready)
    waiting = Attempt(RUN, doors, nobody, AttemptLimits(600.0, slot_wait_seconds=0.1))
    async with asyncio.timeout(10):
        ended = await waiting._perform()
    assert ended is not None
    assert (ended.end, ended.ending, ended.begun) == (End.HANDED_BACK, None, False)


@pytest.mark.parametrize(("ending", "stop"), [(None, Stop.TIMEOUT), (CANCELLED, None)])
def test_asking_how_a_run_ended_is_not_held_to_its_timeout(ending: Ending | None, stop: Stop | None) -> None:
    anything: Any = None
    run = cast("Run", type("AnyRun", (), {"timeout_seconds": 0.0, "ending": ending}))
    late = Attempt(run, anything, anything, AttemptLimits(600.0))
    late._check_limits()
    assert late._stop is stop
