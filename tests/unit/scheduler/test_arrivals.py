"""Arrivals: each version of a file is told once, when it rests."""

from datetime import UTC, datetime, timedelta

from dataaggregator.contracts.files import FileState
from services.scheduler.arrivals.domain import Arrival, compare

START = datetime(2026, 1, 31, tzinfo=UTC)
SETTLE = timedelta(seconds=30)


class Watch:
    """A trigger that looks, and keeps what it knows."""

    def __init__(self) -> None:
        self.known: dict[str, Arrival] | None = None

    def look(self, seconds: float, **files: str) -> list[str]:
        listed = [FileState(name=name, size=len(version), version=version) for name, version in files.items()]
        compared = compare(self.known, listed, START + timedelta(seconds=seconds), SETTLE)
        self.known = {**(self.known or {}), **{one.file.name: one for one in compared.changed}}
        return [f"{file.name}={file.version}" for file in compared.arrived]


def test_what_is_there_at_the_first_look_is_known() -> None:
    watch = Watch()
    assert watch.look(0, a="1") == []
    assert watch.look(100, a="1") == []


def test_a_new_file_is_told_once_when_it_has_not_changed_for_so_long() -> None:
    watch = Watch()
    watch.look(0)
    assert [watch.look(at, a="1") for at in (10, 39)] == [[], []]
    assert watch.look(40, a="1") == ["a=1"]
    assert [watch.look(at, a="1") for at in (41, 1000)] == [[], []]


def test_a_file_that_is_still_written_is_waited_for() -> None:
    watch = Watch()
    watch.look(0)
    for at, version in ((10, "1"), (30, "2"), (50, "3")):
        assert watch.look(at, a=version) == []
    assert watch.look(79, a="3") == []
    assert watch.look(80, a="3") == ["a=3"]


def test_a_changed_file_is_new_and_its_neighbour_is_not() -> None:
    watch = Watch()
    watch.look(0, a="1", b="1")
    assert watch.look(10, a="2", b="1") == []
    assert watch.look(40, a="2", b="1") == ["a=2"]


def test_a_file_that_comes_back_as_it_was_is_not_new() -> None:
    watch = Watch()
    watch.look(0)
    watch.look(10, a="1")
    assert watch.look(40, a="1") == ["a=1"]
    assert watch.look(50) == []
    assert [watch.look(at, a="1") for at in (60, 100)] == [[], []]
    assert watch.look(110) == []
    assert watch.look(120, a="2") == []
    assert watch.look(150, a="2") == ["a=2"]


def test_a_file_that_goes_before_it_rests_is_never_told() -> None:
    watch = Watch()
    watch.look(0)
    assert [watch.look(10, a="1"), watch.look(20), watch.look(100)] == [[], [], []]
    assert watch.look(110, a="2") == []
