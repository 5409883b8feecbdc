"""What every stage has: its counts, its place, and the two shapes of work, by row and by set."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.contracts.steps import Expect
from dataaggregator.dataplane.sandbox.messages import Accounting, InputCounts, Rejected, StageCounts
from dataaggregator.dataplane.sandbox.python.door import Door
from dataaggregator.dataplane.steps.engine import Engine, Place
from dataaggregator.dataplane.steps.types import Column


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a stage stands: its node, its name, the path of its definition, and what it works with."""

    engine: Engine
    node: str
    stage: str
    path: str
    parameters: Mapping[str, Any]
    mask_key: bytes | None = field(default=None, repr=False)
    python: Door | None = None

    def place(self, below: str = "", *, before: str = "", text: str = "") -> Place:
        """The place of one text of this step's definition."""
        field = f"{self.path}.{below}" if below else self.path
        return Place(self.stage, field, before=before, text=text, rows_shown=self.engine.rows_shown)


@dataclass(slots=True)
class Flow:
    """Rows between two stages, and for each the row it came from: `origin[places[i]]` (no places: the same row)."""

    rows: pa.RecordBatch
    origin: pa.RecordBatch
    places: Column | None = None

    def with_rows(self, rows: pa.RecordBatch) -> "Flow":
        """The same rows with other fields."""
        return Flow(rows, self.origin, self.places)

    def keep(self, mask: Column) -> "Flow":
        """Only the rows where the mask is true."""
        at = pc.indices_nonzero(mask).cast(pa.int32())
        if len(at) == len(mask):
            return self
        places = at if self.places is None else self.places.take(at)
        return Flow(self.rows.take(at), self.origin, places)

    def originals(self, mask: Column) -> pa.RecordBatch:
        """The rows they came from, where the mask is true."""
        at = pc.indices_nonzero(mask)
        return self.origin.take(at if self.places is None else self.places.take(at))


class Outlet(Protocol):
    """Where rejected rows go."""

    def rejected(self, message: Rejected) -> None:
        """Hand over rows a rule refused."""


@dataclass(slots=True)
class Tally:
    """The counts of one stage while it works."""

    read: int = 0
    written: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    inputs: dict[str, InputCounts] = field(default_factory=dict)
    fan_out: int | None = None
    groups: int | None = None
    counted: int | None = None
    kept: int | None = None
    duplicates: int | None = None
    marked: int | None = None
    deleted: int | None = None
    lengths: int | None = None
    empty: int | None = None
    doubled: int | None = None
    invented: int | None = None
    expect: Expect | None = None
    flow: int | None = None
    batches: int = 0
    seconds: float = 0.0


class Stage:
    """A step at work."""

    kind: ClassVar[str]
    accounting: Accounting = "proven"

    def __init__(self, setting: Setting, schema: pa.Schema) -> None:
        self.setting = setting
        self.schema = schema  # of the rows that leave; each kind sets its own
        self.tally = Tally()

    def counts(self) -> StageCounts:
        """The counts up to now."""
        tally = self.tally
        return StageCounts(
            stage=self.setting.stage,
            node=self.setting.node,
            kind=self.kind,
            accounting=self.accounting,
            read=tally.read,
            written=tally.written,
            filtered=dict(tally.filtered),
            rejected=dict(tally.rejected),
            warned=dict(tally.warned),
            inputs=dict(tally.inputs),
            fan_out=tally.fan_out,
            groups=tally.groups,
            counted=tally.counted,
            kept=tally.kept,
            duplicates=tally.duplicates,
            marked=tally.marked,
            deleted=tally.deleted,
            lengths=tally.lengths,
            empty=tally.empty,
            doubled=tally.doubled,
            invented=tally.invented,
            expect=tally.expect,
            flow=tally.flow,
            batches=tally.batches,
            duration_ms=round(tally.seconds * 1000, 3),
        )

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time spent inside as this stage's."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.tally.seconds += time.monotonic() - begun


class RowStage(Stage, ABC):
    """Works batch by batch; read = written + filtered + rejected."""

    def apply(self, flow: Flow, outlet: Outlet) -> Flow:
        """Change one batch, counting."""
        with self.timed():
            self.tally.batches += 1
            self.tally.read += flow.rows.num_rows
            changed = self.change(flow, outlet)
            self.tally.written += changed.rows.num_rows
        return changed

    @abstractmethod
    def change(self, flow: Flow, outlet: Outlet) -> Flow:
        """Each kind's own work."""

    def reject(self, flow: Flow, mask: Column, rule: str, reason: str, outlet: Outlet) -> None:
        """Hand the rows where the mask is true to the quarantine, attributed to this stage and rule."""
        rows = flow.originals(mask)
        self.tally.rejected[rule] += rows.num_rows
        setting = self.setting
        outlet.rejected(Rejected(setting.node, setting.stage, rule, reason, rows))


class ManyStage(Stage, ABC):
    """Works batch by batch, but gives another number of rows than it takes, in pieces."""

    @abstractmethod
    def give(self, flow: Flow) -> Iterator[Flow]:
        """What becomes of one batch, counting."""


class SetStage(Stage, ABC):
    """Works on the whole of its inputs, kept in the engine, which spills."""

    inputs: Mapping[str, pa.Schema]

    @abstractmethod
    def take(self, name: str, rows: pa.RecordBatch) -> None:
        """Keep rows of one input."""

    @abstractmethod
    def give(self) -> Iterable[pa.RecordBatch]:
        """Every row, when all inputs have ended; checks the law at the end."""


def array(column: Column) -> Column:
    """One array of a column the engine gave in chunks."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
