"""What the trusted process counts while rows pass: at each source, each edge and each destination, batch by batch."""

import time
from collections import defaultdict
from dataclasses import dataclass, field, replace

from dataaggregator.contracts.run import RunCounts, StageProgress
from dataaggregator.dataplane.batch import LeftOut
from dataaggregator.dataplane.sandbox.messages import StageCounts
from dataaggregator.errors import Permanent


@dataclass
class Counted:
    """One source, projection or destination: rows in and out as they were seen here."""

    kind: str
    read: int = 0
    written: int = 0
    rejected: int = 0
    marked: int = 0
    """Rows for a destination that say theirs is to go."""
    bytes: int = 0
    batches: int = 0
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def duration_ms(self) -> int:
        return round(((self.ended or time.monotonic()) - self.started) * 1000)


class Tally:
    """All counts of one pass over the sources. The sandbox's own counts are kept beside, never mixed in."""

    def __init__(self) -> None:
        self.sources: dict[str, Counted] = {}
        self.columns: dict[str, tuple[str, ...]] = {}
        """By source, those it was asked for; it is not here if that was all of them."""
        self.left_out: dict[str, LeftOut] = {}
        """By the stage of a filter that its source does, what that has not sent."""
        self.projections: dict[str, Counted] = {}
        self.destinations: dict[str, Counted] = {}
        self.reported: dict[str, StageCounts] = {}
        """By stage, as the sandbox says."""
        self.taken: defaultdict[tuple[str, str], int] = defaultdict(int)
        """Rows taken over, by producing node and taker."""
        self.quarantined: defaultdict[str, int] = defaultdict(int)
        """Rows set aside, by stage."""

    def report(self, counts: StageCounts) -> None:
        """What the sandbox says of a stage; a filter that its source does has read what it left out, too."""
        left_out = self.left_out.get(counts.stage)
        if left_out is not None:
            if other := sum(counts.filtered.values()):
                detail = f"{counts.stage}: the source sent {other} rows that the condition is not true of."
                raise Permanent("unbalanced", detail)
            counts = replace(counts, read=counts.read + left_out.rows, filtered=left_out.by_rule)
        self.reported[counts.stage] = counts

    @property
    def moved(self) -> tuple[int, ...]:
        """Changes whenever anything moved: what progress is measured by."""
        counted = (*self.sources.values(), *self.destinations.values())
        here = [number for one in counted for number in (one.read, one.bytes)]
        return (*here, *(number for one in self.reported.values() for number in (one.read, one.written)))

    def progress(self) -> tuple[StageProgress, ...]:
        trusted = [*self.sources.items(), *self.projections.items(), *self.destinations.items()]
        return (
            *(
                StageProgress(stage=name, kind=one.kind, read=one.read, written=one.written, rejected=one.rejected)
                for name, one in trusted
            ),
            *(
                StageProgress(
                    stage=one.stage,
                    kind=one.kind,
                    read=one.read,
                    written=one.written,
                    filtered=sum(one.filtered.values()),
                    rejected=sum(one.rejected.values()),
                )
                for one in self.reported.values()
            ),
        )

    def warnings(self) -> list[str]:
        """What rules that only warn have to say."""
        return [
            f"{stage.stage}: {count} rows did not pass {rule}."
            for stage in self.reported.values()
            for rule, count in stage.warned.items()
            if count
        ]

    def counts(self) -> RunCounts:
        """Kept rows are read from a disk of ours: no source has sent them."""
        sent = [one for one in self.sources.values() if one.kind == "source"]
        return RunCounts(
            rows_read=sum(one.read for one in sent),
            rows_written=sum(one.written for one in self.destinations.values()),
            rows_filtered=sum(sum(one.filtered.values()) for one in self.reported.values()),
            rows_rejected=sum(self.quarantined.values()),
            bytes_read=sum(one.bytes for one in sent),
            bytes_written=sum(one.bytes for one in self.destinations.values()),
        )
