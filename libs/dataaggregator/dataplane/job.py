"""What executor and run process tell each other: jobs and cancel one way, frames of progress and outcome the other."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dataaggregator.connector.egress import entries_for
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.contracts.dry_run import DryRunAsked
from dataaggregator.contracts.ledger import Ledger, Receipt
from dataaggregator.contracts.pipeline import EmptiedSource, ResolvedPipeline
from dataaggregator.contracts.run import DestinationOutcome, RunCounts, RunError, StageProgress
from dataaggregator.contracts.transformation import TransformationDefinition


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ConnectorUse(_Part):
    """A connector with its secrets opened: lives on this wire only, never in argv, environment, logs or errors."""

    type: str
    config: dict[str, Any] = Field(repr=False)


class SandboxSettings(_Part):
    level: Literal["strict", "basic"] = "strict"
    memory_bytes: int = 1024 * 1024 * 1024
    cpu_seconds: int = 3600
    spill_bytes: int = 10 * 1024 * 1024 * 1024
    python_seconds: int = 540


class JobSettings(_Part):
    """What the run may touch outside: the one egress door's policy and the folders of the files connector."""

    egress_allow: tuple[str, ...] = ()
    egress_deny: tuple[str, ...] = ()
    egress_private: bool = False
    allowed_roots: tuple[str, ...] = ()

    def of(self, workspace: UUID) -> "JobSettings":
        """With what the operator says of all workspaces and of this one: a job is not told of others."""
        return self.model_copy(
            update={
                "egress_allow": entries_for(self.egress_allow, workspace),
                "egress_deny": entries_for(self.egress_deny, workspace),
            }
        )


MaskKey = Annotated[str, Field(repr=False, pattern="^[0-9a-f]{64}$")]
"""The workspace's own key, in hexadecimal, with which a mask hashes; like secrets it is on this wire only."""


class KnownCursor(_Part):
    """How far one destination has taken one source stream, as the executor was told; the destination knows better.

    `destination` is the ledger's name of the destination's stage, `cursor` holds field, type and value. `epoch` is that
    of its commit, 0 where the reader of it has its own.
    """

    destination: str
    source: str
    cursor: dict[str, Any]
    epoch: int = 0


class CursorSet(_Part):
    """Where reading is to go on because somebody said so; `cursor` None is from the beginning.

    `epoch` is a number out of the row of the runs' epochs: a cursor that was committed under a later one has obeyed it.
    """

    destination: str | None
    """None: every one."""
    source: str | None
    """None: every one."""
    cursor: dict[str, Any] | None
    epoch: int

    def covers(self, destination: str, source: str) -> bool:
        return self.destination in (None, destination) and self.source in (None, source)


class Prepare(_Part):
    """First frame to a fresh run process: what its warm sandbox may use."""

    kind: Literal["prepare"] = "prepare"
    sandbox: SandboxSettings = SandboxSettings()
    spill_folder: str


class ReplayedRows(_Part):
    """Rejected rows of an earlier run, as the source of this one."""

    source: str
    """The source of the definition that stands for them."""
    transformation: str
    """"" if a destination rejected them."""
    first: int
    """Which of the steps of that transformation its definition here begins with, from 0."""
    folder: str
    """The folder of the run that rejected them."""
    files: tuple[str, ...]
    rows: int
    earlier: tuple[UUID, ...] = ()
    """Replays of all these rows that did not succeed: what they committed all the same is not loaded again."""
    overlapping: tuple[UUID, ...] = ()
    """As `earlier`, of some of these rows: what they committed could not be told apart."""


class BackfilledSlot(_Part):
    """A slot of a backfill: sources that are read incrementally give the rows of this interval, by their cursor.

    Nothing is read or moved of where the pipeline's own runs go on.
    """

    id: UUID
    """The same for each run of the slot: under it the destinations keep a fence."""
    start: datetime
    end: datetime


class ReplicatedStream(_Part):
    """A stream of a whole schema: its name at the source, and the primary key that the source declares."""

    stream: str
    primary_key: tuple[str, ...] = ()


class RunJob(_Part):
    kind: Literal["run"] = "run"
    run_id: UUID
    workspace_id: UUID
    mask_key: MaskKey
    pipeline_id: UUID
    attempt: int = 1
    epoch: int
    definition: ResolvedPipeline
    connectors: dict[UUID, ConnectorUse]
    cursors: tuple[KnownCursor, ...] = ()
    set_by_hand: tuple[CursorSet, ...] = ()
    folder: str
    """The run folder: the same for every attempt of the run on this machine."""
    kept: str
    """The folder of what is kept of this pipeline's sources: the same for all its runs on this machine."""
    parameters: dict[str, Any] = {}
    full_refresh: bool = False
    previous_rows: dict[str, int] = {}
    """Rows each source gave in the last succeeded run: none now is a warning."""
    settings: JobSettings = JobSettings()
    replay: ReplayedRows | None = None
    replicated: ReplicatedStream | None = None
    """The stream of a whole schema that this job is about, by itself."""
    slot: BackfilledSlot | None = None
    lane: int = 0
    """From 1: other runs of the pipeline may be at work beside this one, each in a lane of its own."""
    only_ask: bool = False
    """Read and write nothing: find out what earlier attempts have committed; none of them can any more afterwards."""
    asks_before_commit: bool = False
    """Whether what was rejected is to outlive this machine before anything is committed."""

    @property
    def fence(self) -> UUID | None:
        """Under what the destinations keep its fence; None for the pipeline's own. All attempts have the same, and in
        a lane each run the one of the run before it: none of that can commit any more."""
        if self.slot is not None:
            return self.slot.id
        return uuid5(self.pipeline_id, f"lane {self.lane}") if self.lane else None


ProbeKind = Literal["connector_test", "discover", "preview", "list_files", "transform_test", "read_back", "dry_run"]


class HeldLoad(_Part):
    """What a destination is asked for by a read_back: its receipt of this load."""

    run_id: UUID
    pipeline_id: UUID
    destination: str
    stream: str
    write: Literal["append", "replace", "merge"]


class ReadBack(_Part):
    """The result of a read_back; `provable` False: this destination keeps no ledger.

    `unchanged` of the `written` rows are there as they were written; None where nobody can tell, `detail` says why.
    """

    receipt: Receipt | None
    provable: bool
    written: int | None = None
    unchanged: int | None = None
    detail: str = ""


class DryRunJob(_Part):
    """What was asked for, with what a run of the pipeline would be given."""

    asked: DryRunAsked
    connectors: dict[UUID, ConnectorUse]
    cursors: tuple[KnownCursor, ...] = ()
    set_by_hand: tuple[CursorSet, ...] = ()
    previous_rows: dict[str, int] = {}
    """As in a RunJob."""
    kept: str
    """As in a RunJob; nothing in it is touched."""
    full_refresh: Literal[False] = False


class ProbeJob(_Part):
    kind: Literal["probe"] = "probe"
    probe: ProbeKind
    workspace_id: UUID
    mask_key: MaskKey
    connector: ConnectorUse | None = None
    stream: str | None = None
    query: str | None = None
    pattern: str | None = None
    limit: int = Field(default=20, ge=1, le=1000)
    transformation: TransformationDefinition | None = None
    sample: dict[str, list[dict[str, Any]]] = {}
    load: HeldLoad | None = None
    dry_run: DryRunJob | None = None
    folder: str
    settings: JobSettings = JobSettings()

    @property
    def uses(self) -> list[ConnectorUse]:
        """Every connector it is given, whose secrets nothing may tell."""
        alone = [] if self.connector is None else [self.connector]
        return alone if self.dry_run is None else [*alone, *self.dry_run.connectors.values()]


class Cancel(_Part):
    kind: Literal["cancel"] = "cancel"


class MayCommit(_Part):
    """The answer to AboutToCommit, in the order they were told in."""

    kind: Literal["may_commit"] = "may_commit"


class AboutToCommit(_Part):
    """Rows were rejected; they and the records of their counts lie in the run folder. Waits for MayCommit."""

    kind: Literal["about_to_commit"] = "about_to_commit"


class Ready(_Part):
    """The run process is warm: everything imported, its sandbox locked down and waiting."""

    kind: Literal["ready"] = "ready"


class Progress(_Part):
    """Sent only when something moved, at most four a second: silence is what the stall limit measures."""

    kind: Literal["progress"] = "progress"
    at: datetime
    phase: Literal["opening", "reading", "writing", "committing", "done"]
    stages: tuple[StageProgress, ...] = ()
    rows_read: int = 0
    rows_written: int = 0
    progress: float | None = None
    """0 to 1 where the sources could say how many rows to expect."""


class LogLine(_Part):
    kind: Literal["log"] = "log"
    at: datetime
    level: Literal["debug", "info", "warning", "error"]
    message: str
    fields: dict[str, Any] = {}


class SchemaChange(_Part):
    """DDL done at a destination before the load: the executor says schema.changed."""

    kind: Literal["schema_change"] = "schema_change"
    connector_id: UUID
    stream: str
    changes: tuple[SchemaDifference, ...]


class CursorCommitted(_Part):
    """A destination committed with this cursor: reading goes on from here, whatever becomes of the run."""

    kind: Literal["cursor"] = "cursor"
    destination: str
    source: str
    cursor: dict[str, Any]


class QuarantineEntry(_Part):
    """Rejected rows of one stage and rule in one Parquet file of the run folder."""

    stage: str
    kind: str | None = None
    """Of the stage, as in the ledger."""
    rule: str
    reason: str
    """Of the first of them."""
    reasons: dict[str, int] = {}
    """How many have which reason; of a rule with very many reasons not all."""
    count: int
    file: str
    row_offset: int
    """The first of them in the file; they stand together."""
    position: str | None = None
    """Where the first of them stood in its source ("orders.csv:17"), where the source can say."""
    destinations: tuple[str, ...] = ()
    """Those behind the stage that committed the rows which were read with them, by their ledger names."""
    replicated: ReplicatedStream | None = None
    """The stream of a whole schema that they are of."""


class RunOutcome(_Part):
    status: Literal["succeeded", "failed", "cancelled"]
    error: RunError | None = None
    ledger: Ledger
    destinations: tuple[DestinationOutcome, ...] = ()
    cursors: tuple[KnownCursor, ...] = ()
    counts: RunCounts
    quarantine: tuple[QuarantineEntry, ...] = ()
    warnings: tuple[str, ...] = ()
    emptied: tuple[EmptiedSource, ...] = ()


class Finished(_Part):
    kind: Literal["finished"] = "finished"
    outcome: RunOutcome


class Answered(_Part):
    """The end of a probe: its result, or the error as a problem's parts."""

    kind: Literal["answered"] = "answered"
    result: dict[str, Any] | None = None
    error: RunError | None = None
    errors: tuple[Mapping[str, str], ...] = ()
    """Field errors (field, message, code) when the probe's input was wrong."""
    invalid: bool = False
    """Whether whoever asked must change something: then no other system is to blame."""


AnyOrder = Prepare | RunJob | ProbeJob | Cancel | MayCommit
AnyFrame = Ready | Progress | LogLine | SchemaChange | CursorCommitted | AboutToCommit | Finished | Answered
_ORDERS: TypeAdapter[AnyOrder] = TypeAdapter(Annotated[AnyOrder, Field(discriminator="kind")])
_FRAMES: TypeAdapter[AnyFrame] = TypeAdapter(Annotated[AnyFrame, Field(discriminator="kind")])


def read_order(data: bytes) -> AnyOrder:
    return _ORDERS.validate_json(data)


def read_frame(data: bytes) -> AnyFrame:
    return _FRAMES.validate_json(data)


def encode(frame: BaseModel) -> bytes:
    return frame.model_dump_json().encode()
