"""Progress of a run: told when something moved, at most four times a second; a short run's end says it all."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, Self

from dataaggregator.clock import Clock
from dataaggregator.contracts.run import StageProgress
from dataaggregator.dataplane.job import Progress
from dataaggregator.dataplane.report import Teller
from dataaggregator.dataplane.tally import Tally

EVERY_SECONDS = 0.25
COUNTS = ("read", "written", "filtered", "rejected")
Phase = Literal["opening", "reading", "writing", "committing", "done"]


class Pulse(ABC):
    """Tells how far something is, four times a second while it moves, and once more as it ends."""

    phase: Phase = "opening"
    _task: "asyncio.Task[None] | None" = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._turn(), name=type(self).__name__)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.phase = "done"
        if self._began:
            self._tell()

    async def _turn(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            if self._has_moved():
                self._tell()

    @property
    @abstractmethod
    def _began(self) -> bool:
        """Whether there is anything to tell at the end."""

    @abstractmethod
    def _has_moved(self) -> bool:
        """Since it was asked last."""

    @abstractmethod
    def _tell(self) -> None: ...


class Meter(Pulse):
    """Silent while nothing moves: that silence is what the stall limit of the executor measures."""

    def __init__(self, report: Teller, clock: Clock) -> None:
        self._report = report
        self._clock = clock
        self._tallies: list[Tally] = []
        self._finished: dict[str, StageProgress] = {}
        self._rows_read = self._rows_written = 0
        self._told: tuple[object, ...] | None = None

    def follow(self, tally: Tally) -> None:
        self._tallies.append(tally)

    def finish(self, tally: Tally) -> None:
        """Keep its sums and let it go: the next one counts the same stages on."""
        self._finished = {one.stage: one for one in self._stages()}
        counts = tally.counts()
        self._rows_read += counts.rows_read
        self._rows_written += counts.rows_written
        self._tallies.remove(tally)

    def _stages(self) -> Iterator[StageProgress]:
        found = dict(self._finished)
        for one in (stage for tally in self._tallies for stage in tally.progress()):
            if (before := self._finished.get(one.stage)) is None:
                yield one
                continue
            found.pop(one.stage, None)
            sums = {name: getattr(before, name) + getattr(one, name) for name in COUNTS}
            yield one.model_copy(update=sums)
        yield from found.values()

    @property
    def _began(self) -> bool:
        return self._told is not None

    def _has_moved(self) -> bool:
        before, self._told = self._told, (self.phase, *(tally.moved for tally in self._tallies))
        return self._told != before

    def _tell(self) -> None:
        counts = [tally.counts() for tally in self._tallies]
        self._report.tell(
            Progress(
                at=self._clock.now(),
                phase=self.phase,
                stages=tuple(self._stages()),
                rows_read=self._rows_read + sum(one.rows_read for one in counts),
                rows_written=self._rows_written + sum(one.rows_written for one in counts),
            )
        )
