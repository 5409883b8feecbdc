"""Contracts: a dry run: a pipeline's saved and proposed definition on the same sample of rows, and nothing written."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from dataaggregator.contracts.base import Sent, Told
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.contracts.ledger import Accounting, LedgerEdge, LedgerStage
from dataaggregator.contracts.modes import ReadMode, WriteMode
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.run import RunError

SAMPLE_ROWS = 1_000
MOST_SAMPLE_ROWS = 10_000

SampleRows = Annotated[int, Field(ge=1, le=MOST_SAMPLE_ROWS, description="How many rows of each source at most.")]
Row = dict[str, Any]
Change = Literal["same", "changed", "added", "removed"]
Road = Literal["undecoded", "decoded", "sandbox"]


class Candidate(Sent):
    """A definition to be tried, with the values of its parameters."""

    definition: ResolvedPipeline
    parameters: dict[str, Any] = Field(default_factory=dict)


class DryRunAsked(Sent):
    """What the scheduler asks an executor for; a pipeline that is not saved yet has neither an id nor a current one."""

    pipeline_id: UUID | None
    current: Candidate | None
    proposed: Candidate | None
    sample_rows: SampleRows = SAMPLE_ROWS
    show_rows: bool = False


class WrongField(Told):
    """One place of a definition and what is wrong with it, with line and column where it is an expression."""

    field: str
    message: str
    code: str


class DryRunError(RunError):
    """Why a run of this definition would not succeed; `stage` is where."""

    errors: tuple[WrongField, ...] = ()


class SampledSource(Told):
    """What was read of a source: not `complete`, it has more rows than that. Both definitions get the same rows."""

    name: str
    connector: str
    stream: str | None = Field(description="Null where rows are asked for by a query.")
    read: ReadMode
    rows: int
    rejected: int
    complete: bool
    begins: dict[str, Any] | None = Field(description="The cursor behind which was read; null is from the beginning.")
    columns: tuple[str, ...] | None = Field(
        None, description="Those that a run reads, where nothing behind the source needs the others; null is all."
    )
    row_schema: dict[str, Any] = Field(alias="schema")


class TriedStage(LedgerStage):
    """A line of the ledger, the rows' schema behind it, and the first of them for those who may see rows."""

    row_schema: dict[str, Any] | None = Field(None, alias="schema")
    sample: tuple[Row, ...] | None = None


class RejectedSample(Told):
    """A row that would go to the quarantine."""

    step: str
    rule: str
    reason: str
    row: Any


class ForeseenDestination(Told):
    """What a run would hand to a destination, and what it would do to the stream before.

    `road`: rows pass `undecoded` from one database to another, are `decoded` on their way, or go through the sandbox of
    the steps as well.
    """

    connector: str
    stream: str
    write: WriteMode
    rows: int | None = None
    deletes: int | None = Field(None, description="How many of the rows say that the one of their key is to go.")
    row_schema: dict[str, Any] | None = Field(None, alias="schema")
    changes: tuple[SchemaDifference, ...] = ()
    left: tuple[SchemaDifference, ...] = Field((), description="Differences that the schema policy leaves as they are.")
    road: Road | None = None
    error: DryRunError | None = None


class ForeseenStream(Told):
    """What a run would do with one stream of a whole schema. One that is not `looked_at` was one too many, or too late:
    what its destination would be changed for is not known then."""

    stream: str
    known: bool = Field(description="Whether the last good run has loaded it.")
    estimated_rows: int | None
    read: ReadMode
    cursor_field: str | None
    begins: dict[str, Any] | None = Field(None, description="The cursor behind which it would be read on.")
    key: tuple[str, ...] = Field(description="The fields that tell its rows apart.")
    looked_at: bool = False
    destination: ForeseenDestination


class ForeseenSchema(Told):
    """The streams that a run would take, all of them counted and some hundreds listed, and those that it would not."""

    total: int
    new: int = Field(description="How many of them the last good run has not loaded.")
    streams: tuple[ForeseenStream, ...] = ()
    left_out: tuple[str, ...] = Field((), description="What only a pattern behind a ! keeps away.")
    ignored: tuple[str, ...] = Field((), description="New ones that on_new leaves alone.")
    vanished: tuple[str, ...] = Field((), description="Loaded by the last good run, and not there any more.")


class Tried(Told):
    """One definition on the sample; `ok` is what a run of these rows would come to. A null `balanced` broke off.

    A whole schema is `replicated`: its streams are looked at, no row of them is read.
    """

    ok: bool
    sources: tuple[SampledSource, ...] = ()
    stages: tuple[TriedStage, ...] = ()
    edges: tuple[LedgerEdge, ...] = ()
    accounting: Accounting | None = None
    balanced: bool | None = None
    violations: tuple[str, ...] = ()
    rejected: tuple[RejectedSample, ...] | None = Field(None, description="Null for those who may not see rows.")
    destinations: tuple[ForeseenDestination, ...] = ()
    replicated: ForeseenSchema | None = None
    warnings: tuple[str, ...] = ()
    error: DryRunError | None = None


class StageCounted(Told):
    """The counts of a stage that are held against the other definition's; null where it did not get so far."""

    stage: str
    kind: str
    read: int | None = None
    written: int | None = None
    filtered: int | None = None
    rejected: int | None = None


class StageDifference(Told):
    """A source, step or destination of either definition; one that both have is `same` or `changed`."""

    change: Change
    current: StageCounted | None
    proposed: StageCounted | None


class RowExample(Told):
    """One key that only one definition gives, or both with other values."""

    key: Row
    current: Row | None
    proposed: Row | None


class RowDifference(Told):
    """The rows of both held against each other in the fields that both have: by the destination's key, else whole.

    `differ` counts rows of one key with other values, `by_field` in which fields; `vanish` those that only the current
    definition gives, `appear` those that only the proposed one does. `examples` are for those who may see rows.
    """

    compared_by: tuple[str, ...]
    same: int
    differ: int
    vanish: int
    appear: int
    by_field: dict[str, int] = Field(default_factory=dict)
    examples: tuple[RowExample, ...] | None = None


class DestinationDifference(Told):
    """A destination of either definition; `rows` is null where there are none to compare, and `because` says why."""

    connector: str
    stream: str
    change: Change
    current_rows: int | None
    proposed_rows: int | None
    fields: tuple[SchemaDifference, ...] = ()
    rows: RowDifference | None = None
    because: str | None = None


class Differences(Told):
    """What the proposed definition changes."""

    stages: tuple[StageDifference, ...]
    destinations: tuple[DestinationDifference, ...]


class DryRun(Told):
    """The answer: `ok` if runs of all definitions that were tried would succeed with these rows."""

    ok: bool
    sample_rows: int
    current: Tried | None
    proposed: Tried | None
    differences: Differences | None
