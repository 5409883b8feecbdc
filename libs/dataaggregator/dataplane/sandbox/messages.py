"""What goes into a sandbox and what comes out of it, as the trusted side sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from dataaggregator.contracts.steps import Expect

Accounting = Literal["proven", "declared", "unaccounted"]


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one sandbox may use.

    `memory_bytes` bounds the private memory of the process beyond what the engines take when idle;
    `cpu_seconds` is processor time *without an answer*: each answer starts it again;
    `spill` is the one folder it may write to, at most `spill_bytes` of it; `level` is strict or basic.
    The user's Python has as much memory for itself, `cpu_seconds` for all of its work and `python_seconds` by the clock
    for an answer; it may give `spill_bytes` of rows.
    """

    spill: Path
    memory_bytes: int = 1 << 30
    cpu_seconds: int = 600
    spill_bytes: int = 10 << 30
    python_seconds: int = 540
    level: Literal["strict", "basic"] = "strict"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that left a transformation asked for as an output."""

    node: str
    batch: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Rejected:
    """Rows one rule of one stage refused, for one reason; `rows` hold the values as they came into `node`.

    Behind a set-wise step there is no such row any more: then they are as they left the last set-wise step. Behind an
    explode they are as they left it, one element each, and behind a mask too: no original comes out there.
    """

    node: str
    stage: str
    rule: str
    reason: str
    rows: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows that left a stage, when `load` was asked for samples."""

    stage: str
    batch: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Printed:
    """What the user's Python printed in one call, cut off at some length."""

    stage: str
    text: str


@dataclass(frozen=True, slots=True)
class InputCounts:
    """One input of a set-wise stage: rows read from it, matched and not matched by the join."""

    read: int
    matched: int | None = None
    unmatched: int | None = None


@dataclass(frozen=True, slots=True)
class StageCounts:
    """The counts of a stage up to now; the last one before Done is final.

    Row-wise: read = written + filtered + rejected. Join: `inputs`, and `fan_out` = rows written beyond one
    a matched row of the flow. Aggregate: `counted`, the hidden count(*) summed over all groups, = read.
    Dedupe: `kept` + `duplicates` = read. Keep: + `deleted`, those of the `marked` rows that were the last of their key.
    Flatten: `empty`, the rows whose struct is NULL.
    Explode: `lengths`, the elements of all lists, = written; `empty`, the rows whose list is empty or NULL.
    Sql and Python: `expect`, and `flow`, the rows of the first input it is held against. Python with row ids:
    read = `kept` + filtered, written = `kept` + `doubled` + `invented`.
    """

    stage: str
    node: str
    kind: str
    accounting: Accounting
    read: int
    written: int
    filtered: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, InputCounts] = field(default_factory=dict)
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
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """Every input was finished and everything is out."""


Output = Rows | Rejected | Sample | Printed | StageCounts | Done
