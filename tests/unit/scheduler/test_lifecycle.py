"""The states of a run: the table, the page that draws it, and what holds whatever is said in whatever order."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dataaggregator.contracts.run import RunCounts, RunError
from dataaggregator.errors import Conflict
from services.scheduler.runs.domain import ENDED, STEPS, Asked, Fact, Outcome, Run, Status

PAGE = Path(__file__).parents[3] / "docs" / "run-lifecycle.md"
START = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = RunError(code="connector-unreachable", detail="It does not answer.", retryable=True)
ENDS = (Fact.SUCCEEDED, Fact.FAILED, Fact.CANCELLED, Fact.TIMED_OUT)


def test_the_picture_is_the_table_in_the_code() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert {(before, said, after) for before, after, said in drawn} == _table()
    ended = re.findall(r"^    (\w+) --> \[\*\]$", PAGE.read_text(), re.MULTILINE)
    assert set(ended) == {status.value for status in ENDED}


def test_the_table_on_the_page_is_the_table_in_the_code() -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (\w+) \| (?:executor|scheduler)", PAGE.read_text(), re.MULTILINE)
    assert set(rows) == _table()


def test_a_handed_back_attempt_begins_again_under_its_number() -> None:
    run = (
        _run().handed_over(START).started(1, "one", START).attempt_failed(ERROR, START, START).started(1, "two", START)
    )
    assert [(attempt.number, attempt.executor) for attempt in run.attempts] == [(1, "two")]


def test_the_last_failed_attempt_leaves_the_verdict_to_the_end() -> None:
    run = _run().handed_over(START).started(1, "one", START).attempt_failed(ERROR, START, None)
    assert run.status is Status.RUNNING
    assert run.attempts[0].error == ERROR


def _table() -> set[tuple[str, str, str]]:
    return {(before.value, said.value, after.value) for (before, said), after in STEPS.items()}


def _run() -> Run:
    return Run(uuid4(), uuid4(), uuid4(), "flights", 1, Asked("manual", {}), {}, START)


class Life(RuleBasedStateMachine):
    """Anything may be said at any time; what is refused changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.run = _run()
        self.before = self.run
        self.at = START

    def _try(self, step: str, *arguments: Any) -> None:
        self.before = self.run
        self.at += timedelta(seconds=1)
        with suppress(Conflict):
            self.run = getattr(self.run, step)(*arguments, self.at)

    @rule()
    def hand_over(self) -> None:
        self._try("handed_over")

    @rule(executor=st.sampled_from(["one", "two"]), again=st.booleans())
    def start(self, executor: str, again: bool) -> None:
        last = self.run.attempts[-1].number if self.run.attempts else 0
        self._try("started", max(last, 1) if again else last + 1, executor)

    @rule(retry=st.booleans())
    def fail_attempt(self, retry: bool) -> None:
        self.before = self.run
        self.at += timedelta(seconds=1)
        with suppress(Conflict):
            self.run = self.run.attempt_failed(ERROR, self.at, self.at if retry else None)

    @rule(fact=st.sampled_from(ENDS), rows=st.integers(0, 10))
    def end(self, fact: Fact, rows: int) -> None:
        self._try("finished", fact, Outcome(RunCounts(rows_read=rows), True, (), (), None))

    @rule()
    def skip(self) -> None:
        self._try("skipped", ERROR)

    @rule()
    def withdraw(self) -> None:
        self._try("withdrawn")

    @rule()
    def ask_to_cancel(self) -> None:
        self._try("cancel_requested")

    @invariant()
    def an_ended_run_never_changes(self) -> None:
        assert not self.before.ended or self.run == self.before

    @invariant()
    def each_step_is_in_the_table(self) -> None:
        if self.run.status is not self.before.status:
            assert any((before, after) == (self.before.status, self.run.status) for (before, _), after in STEPS.items())

    @invariant()
    def ended_means_finished(self) -> None:
        assert self.run.ended == (self.run.finished_at is not None)

    @invariant()
    def an_open_attempt_runs(self) -> None:
        still_open = [attempt for attempt in self.run.attempts if attempt.ended_at is None]
        assert len(still_open) <= 1
        assert not still_open or self.run.status is Status.RUNNING

    @invariant()
    def attempts_count_upwards(self) -> None:
        numbers = [attempt.number for attempt in self.run.attempts]
        assert all(before < after for before, after in pairwise(numbers))

    @invariant()
    def only_what_was_never_handed_over_is_skipped(self) -> None:
        assert self.run.status is not Status.SKIPPED or self.run.handed_over_at is None

    @invariant()
    def only_what_was_handed_over_has_attempts(self) -> None:
        assert not self.run.attempts or self.run.handed_over_at is not None


Life.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestLife = Life.TestCase
