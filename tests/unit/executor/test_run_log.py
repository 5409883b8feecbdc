"""The log of a run is bounded in size, rate and number, and says what it dropped."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from dataaggregator.errors import Transient
from services.executor.run_log import LogLimits, RunLog
from services.executor.store.logs import NewLine

AT = datetime(2026, 1, 2, tzinfo=UTC)


class Shelf:
    """May give no answer to a COMMIT, obeyed or not."""

    def __init__(self) -> None:
        self.lines: list[NewLine] = []
        self.obeys = self.answers = True
        self.committed: dict[str, bool] = {}

    async def store(self, lines: Sequence[NewLine], committing: Callable[[str], None]) -> None:
        committing(name := str(len(self.committed)))
        self.committed[name] = self.obeys
        if self.obeys:
            self.lines.extend(lines)
        if not self.answers:
            raise Transient("database-unavailable", "No answer.")

    async def has_committed(self, transaction: str) -> bool:
        return self.committed[transaction]

    @property
    def messages(self) -> list[str]:
        return [line.message for line in self.lines]


async def test_lines_arrive_in_order_with_their_attempt() -> None:
    shelf = Shelf()
    log = RunLog(2, shelf)
    for n in range(3):
        log.add(AT, "info", f"line {n}", {"n": n})
    await log.flush()
    assert [(line.message, line.attempt) for line in shelf.lines] == [("line 0", 2), ("line 1", 2), ("line 2", 2)]


async def test_each_flush_stores_what_came_since_the_one_before() -> None:
    shelf = Shelf()
    log = RunLog(1, shelf)
    for n in range(3):
        log.add(AT, "info", f"line {n}", {})
        await log.flush()
    assert shelf.messages == ["line 0", "line 1", "line 2"]


async def test_a_flood_is_dropped_and_counted() -> None:
    shelf = Shelf()
    log = RunLog(1, shelf, LogLimits(burst_lines=10, lines_per_second=0.0))
    for n in range(100):
        log.add(AT, "info", f"line {n}", {})
    await log.flush()
    assert len(shelf.lines) == 11
    assert shelf.lines[-1].fields == {"dropped": 90}


async def test_the_number_of_lines_counts_over_all_attempts_and_errors_still_get_through() -> None:
    shelf = Shelf()
    log = RunLog(3, shelf, LogLimits(lines=100))
    log.count_stored(100)
    log.add(AT, "info", "too much", {})
    log.add(AT, "error", "the end", {})
    await log.flush()
    assert next(line.message for line in shelf.lines) == "the end"


async def test_errors_too_have_an_end() -> None:
    shelf = Shelf()
    log = RunLog(1, shelf, LogLimits(lines=100))
    log.count_stored(100)
    for n in range(30):
        log.add(AT, "error", f"error {n}", {})
    await log.flush()
    assert [line.message for line in shelf.lines[:10]] == [f"error {n}" for n in range(10)]
    assert [line.fields for line in shelf.lines[10:]] == [{"dropped": 20}]


async def test_a_line_is_cut_to_its_bounds() -> None:
    shelf = Shelf()
    log = RunLog(1, shelf, LogLimits(message_chars=10, fields_bytes=20))
    log.add(AT, "info", "x" * 100, {"a": "y" * 100})
    log.add(AT, "info", "nul\x00", {})
    await log.flush()
    assert shelf.lines[0].message == "x" * 10 + " …"
    assert "a" not in shelf.lines[0].fields
    assert shelf.lines[1].message == "nul\\0"


async def test_a_nul_is_told_as_text_and_what_only_looks_like_one_stays() -> None:
    shelf = Shelf()
    log = RunLog(1, shelf)
    log.add(AT, "info", "told", {"nul": "a\0b", "text": r"a\u0000b", "both": "\\\0", "\0": 1})
    await log.flush()
    assert shelf.lines[0].fields == {"nul": r"a\0b", "text": r"a\u0000b", "both": r"\\0", r"\0": 1}


async def test_what_was_dropped_at_the_end_is_told_where_no_line_is_left_to_tell_it() -> None:
    shelf = Shelf()
    log = RunLog(1, shelf, LogLimits(lines=1))
    log.add(AT, "info", "the one", {})
    await log.flush()
    for n in range(7):
        log.add(AT, "info", f"line {n}", {})
    await log.flush()
    assert [line.fields for line in await log.take()] == [{"dropped": 7}]
    assert await log.take() == []


@pytest.mark.parametrize("obeyed", [True, False])
@pytest.mark.parametrize("ends", [True, False])
async def test_lines_whose_commits_were_not_answered_are_stored_once(obeyed: bool, ends: bool) -> None:
    shelf = Shelf()
    log = RunLog(1, shelf)
    shelf.answers, shelf.obeys = False, obeyed
    for n in range(3):
        log.add(AT, "info", f"line {n}", {})
        with pytest.raises(Transient):
            await log.flush()
    shelf.answers = shelf.obeys = True
    log.add(AT, "info", "the last", {})
    if ends:
        shelf.lines.extend(await log.take())
    else:
        await log.flush()
    assert shelf.messages == ["line 0", "line 1", "line 2", "the last"]


async def test_lines_given_up_after_a_commit_without_an_answer_take_no_later_ones_with_them() -> None:
    shelf = Shelf()
    log = RunLog(1, shelf)
    shelf.answers = False
    log.add(AT, "info", "doubtful", {})
    with pytest.raises(Transient):
        await log.flush()
    log.drop()
    shelf.answers = True
    log.add(AT, "info", "later", {})
    await log.flush()
    assert "later" in shelf.messages
