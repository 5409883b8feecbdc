"""Progress of a run: sums over the passes of a load in chunks, and silence where nothing moves."""

import asyncio

import pytest

from dataaggregator.clock import SystemClock
from dataaggregator.dataplane import meter
from dataaggregator.dataplane.job import Progress
from dataaggregator.dataplane.meter import Meter
from dataaggregator.dataplane.tally import Counted, Tally


class Told(asyncio.Queue[object]):
    """Keeps what is told."""

    def tell(self, frame: object) -> None:
        self.put_nowait(frame)

    def log(self, level: str, message: str, **_: object) -> None:
        raise AssertionError(f"{level}: {message}")

    async def before_commit(self) -> None:
        raise AssertionError("a meter does not commit")

    async def progress(self) -> Progress:
        said = await self.get()
        assert isinstance(said, Progress)
        return said


def a_pass(rows: int, kept: int) -> Tally:
    tally = Tally()
    tally.sources["orders"] = Counted("source", read=rows, written=rows)
    tally.destinations["pg/target"] = Counted("destination", read=kept, written=kept)
    return tally


async def test_progress_counts_on_from_one_pass_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "EVERY_SECONDS", 0.001)
    told: Told = Told()
    async with asyncio.timeout(10), Meter(told, SystemClock()) as progress:
        progress.phase = "reading"
        progress.follow(first := a_pass(3_000, 2_900))
        assert ((await told.progress()).rows_read, told.empty()) == (3_000, True)
        progress.finish(first)
        progress.follow(a_pass(2_000, 1_950))
        said = await told.progress()
    assert (said.rows_read, said.rows_written) == (5_000, 4_850)
    assert [(one.stage, one.read, one.written) for one in said.stages] == [
        ("orders", 5_000, 5_000), ("pg/target", 4_850, 4_850),
    ]  # fmt: skip
    assert (await told.progress()).phase == "done"
    assert told.empty()


async def test_what_never_moved_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: Told = Told()
    async with Meter(told, SystemClock()) as progress:
        progress.follow(a_pass(1, 1))
    assert told.empty(), "a short run's end says it all"
