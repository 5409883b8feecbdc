"""How far a whole schema is: the streams at work, the rows of all, told together while something moves."""

from typing import Any

from dataaggregator.clock import Clock
from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.job import CursorCommitted, LogLine, Progress, SchemaChange
from dataaggregator.dataplane.meter import Pulse
from dataaggregator.dataplane.replicating.uniting import Names
from dataaggregator.dataplane.report import Level, Teller


class Following(Pulse):
    """Bounded however many streams there are: of those that have ended the sums are told, and their share."""

    def __init__(self, report: Teller, clock: Clock) -> None:
        self.streams = 0
        self._report = report
        self._clock = clock
        self._at_work: dict[str, Progress] = {}
        self._ended = 0
        self._read = self._written = 0
        self._moved = False

    def of(self, names: Names) -> "StreamReport":
        """What the runner of one stream reports to."""
        return StreamReport(self, self._report, names)

    def moved(self, stage: str, progress: Progress) -> None:
        self._at_work[stage] = progress
        self._moved = True

    def ended(self, stage: str, counts: RunCounts) -> None:
        self._at_work.pop(stage, None)
        self._ended += 1
        self._read += counts.rows_read
        self._written += counts.rows_written
        self._moved = True

    @property
    def _began(self) -> bool:
        return bool(self.streams)

    def _has_moved(self) -> bool:
        moved, self._moved = self._moved, False
        return moved

    def _tell(self) -> None:
        now = list(self._at_work.values())
        self._report.tell(
            Progress(
                at=self._clock.now(),
                phase=self.phase,
                stages=tuple(stage for one in now for stage in one.stages),
                rows_read=self._read + sum(one.rows_read for one in now),
                rows_written=self._written + sum(one.rows_written for one in now),
                progress=self._ended / self.streams if self.streams else None,
            )
        )


class StreamReport:
    """Stands before the run's own report: what one stream says, said with the stream's name."""

    def __init__(self, following: Following, report: Teller, names: Names) -> None:
        self._following = following
        self._report = report
        self._names = names

    def tell(self, frame: Progress | LogLine | SchemaChange | CursorCommitted) -> None:
        if not isinstance(frame, Progress):
            self._report.tell(frame)
            return
        stages = tuple(one.model_copy(update={"stage": self._names.stage(one.stage)}) for one in frame.stages)
        self._following.moved(self._names.source, frame.model_copy(update={"stages": stages}))

    def log(self, level: Level, message: str, **fields: Any) -> None:
        if isinstance(stage := fields.get("stage"), str):
            fields["stage"] = self._names.stage(stage)
        self._report.log(level, message, **fields, stream=self._names.stream)

    async def before_commit(self) -> None:
        await self._report.before_commit()
