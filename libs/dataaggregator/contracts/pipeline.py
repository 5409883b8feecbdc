"""Contracts: a pipeline as its author writes it, as a run carries it, and what is said about it."""

from typing import Annotated, Any, ClassVar, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from dataaggregator.contracts.base import Expression, FieldName, Many, Message, Name, Sent, Time, Told
from dataaggregator.contracts.capacity import Label
from dataaggregator.contracts.connector import DestinationDifference
from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.modes import ReplaceStrategy, SchemaPolicy, StreamName, WriteMode
from dataaggregator.contracts.parameters import Parameter
from dataaggregator.contracts.policies import Freshness, OnRejected, RetryPolicy
from dataaggregator.contracts.priorities import Priority
from dataaggregator.contracts.replicate import Replicate, ResolvedReplicate
from dataaggregator.contracts.transformation import Inputs, TransformationDefinition
from dataaggregator.contracts.triggers import Trigger
from dataaggregator.contracts.uses import KnownConnector, NamedConnector, Reading
from dataaggregator.contracts.variants import choose, mark

Overlap = Literal["queue", "skip", "cancel_running"]


class _SourceFields(Reading):
    """What is read and how: a stream of the connector, or a query of its own.

    With `keep: full` the platform keeps what was read, one row for each value of `primary_key`, and the steps behind
    see the kept rows and the new ones; a row whose field `delete_when` says so (a boolean, a time, or a word such as
    `delete`) takes the kept one away.
    """

    stream: StreamName | None = None
    query: Expression | None = None
    cursor_field: FieldName | None = None
    keep: Literal["full"] | None = None
    primary_key: Many[FieldName] = ()
    delete_when: FieldName | None = None
    given_schema: dict[FieldName, str] | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _stream_or_query(self) -> "_SourceFields":
        if (self.stream is None) == (self.query is None):
            raise PydanticCustomError("source", "a source names a stream or a query, exactly one of them")
        return self

    @model_validator(mode="after")
    def _what_is_kept_has_a_key(self) -> "_SourceFields":
        if self.keep is not None and self.read != "incremental":
            raise PydanticCustomError("keep", "keep belongs to read: incremental; full_refresh reads everything anyway")
        if self.keep is not None and not self.primary_key:
            raise PydanticCustomError(
                "keep", "keep: full needs a primary_key: by it a new row takes a kept one's place"
            )
        if self.delete_when is not None and self.keep is None:
            raise PydanticCustomError(
                "delete_when", "of a source delete_when belongs to keep: full; a merge has it at the destination"
            )
        if self.delete_when in self.primary_key:
            raise PydanticCustomError("delete_when", "delete_when names a field beside the primary_key")
        return self


class SourceDefinition(_SourceFields, NamedConnector):
    """A source, its connector by name or id."""


class ResolvedSource(_SourceFields, KnownConnector):
    """A source whose connector is known; its configuration is asked for when a run starts."""


class _DestinationFields(Sent):
    """Where rows go and how they are written.

    With `delete_when`, a merge deletes the row of the key where that field says so: a boolean that is true, a time that
    is there, a word such as `delete` or `D`. The field itself is not written. With `chunk_rows` a long load of what one
    source gives in the order of its cursor is committed in chunks of about so many rows. A replace deletes and inserts
    in one transaction; with `replace_strategy: swap` it builds another table beside and gives it the old one's name.
    """

    stream: StreamName
    write: WriteMode = "append"
    replace_strategy: ReplaceStrategy = "delete_insert"
    key: Many[FieldName] = ()
    version_field: FieldName | None = None
    delete_when: FieldName | None = None
    chunk_rows: Annotated[int, Field(ge=1, le=10**12)] | None = None
    schema_policy: SchemaPolicy = "evolve"

    @model_validator(mode="after")
    def _merge_has_a_key(self) -> "_DestinationFields":
        if self.write == "merge" and not self.key:
            raise PydanticCustomError("key", "write: merge needs a key: the fields that tell one row from another")
        if self.version_field is not None and self.write != "merge":
            raise PydanticCustomError("version_field", "version_field belongs to write: merge")
        if self.delete_when is not None and self.write != "merge":
            raise PydanticCustomError("delete_when", "delete_when belongs to write: merge: only there rows have a key")
        if self.replace_strategy != "delete_insert" and self.write != "replace":
            raise PydanticCustomError("replace_strategy", "replace_strategy belongs to write: replace")
        if self.chunk_rows is not None and self.write == "replace":
            raise PydanticCustomError(
                "chunk_rows", "chunk_rows belongs to append and merge: a replace is one transaction"
            )
        if self.delete_when is not None and self.delete_when in (*self.key, self.version_field):
            raise PydanticCustomError("delete_when", "delete_when names a field beside key and version_field")
        if len(set(self.key)) < len(self.key):
            raise PydanticCustomError("key", "each field of the key is named once")
        return self


class DestinationDefinition(_DestinationFields, NamedConnector):
    """A destination, its connector by name or id; without `input` it takes the last transformation's rows."""

    input: Name | None = None


class ResolvedDestination(_DestinationFields, KnownConnector):
    """A destination whose connector and input are known."""

    input: Name


def _use(value: Any) -> str:
    return "name" if isinstance(value, str) else "inline"


def _name_or_inline(value: Any) -> Any:
    if isinstance(value, str | dict | TransformationDefinition):
        return value
    raise PydanticCustomError("transformation", "write the name of a saved transformation, or one inline")


TransformationUse = Annotated[
    Annotated[Name, mark("name")] | Annotated[TransformationDefinition, mark("inline")],
    choose(_use),
    BeforeValidator(_name_or_inline),
]


T = TypeVar("T")


def _not_beside_replicate(value: T, info: ValidationInfo) -> T:
    """`replicate` is read before; where it is wrong itself, that is told."""
    if value and info.data.get("replicate") is not None:
        raise PydanticCustomError("replicate", "a pipeline that replicates a whole schema has none; leave it out")
    return value


def _needed_without_replicate(value: T, info: ValidationInfo) -> T:
    if not value and info.data.get("replicate", value) is None:
        raise PydanticKnownError("too_short", {"field_type": "Field", "min_length": 1, "actual_length": 0})
    return _not_beside_replicate(value, info)


OfItsOwn = Annotated[T, AfterValidator(_not_beside_replicate)]
"""A part of a pipeline that names what it moves."""

Needed = Annotated[T, AfterValidator(_needed_without_replicate), Field(validate_default=True)]
"""Such a part that has to be there."""


class PipelineDefinition(Sent):
    """A pipeline exactly as `POST /api/pipelines` and a definitions file take it: `sources` and `destinations` by name,
    or a whole schema at once with `replicate`."""

    name: Name
    replicate: Replicate | None = None
    sources: Needed[dict[Name, SourceDefinition]] = Field(default_factory=dict)
    transformations: OfItsOwn[Many[TransformationUse]] = ()
    destinations: Needed[Many[DestinationDefinition]] = ()
    triggers: Many[Trigger] = ()
    parameters: OfItsOwn[dict[Name, Parameter]] = Field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    timeout: Duration | None = None
    concurrency: Annotated[
        int,
        Field(ge=1, le=1000, description="How many runs of it may be at work at once; the others wait for their turn."),
    ] = 1
    overlap: Overlap = Field("queue", description="What becomes of a run that is asked for while none may begin.")
    priority: Priority = Field("normal", description="Which of a workspace's runs begins first; never another's.")
    runs_on: Annotated[Many[Label], Field(max_length=20)] = Field(
        (), description="Labels that an executor has to have, all of them, to take its runs (EXECUTOR_LABELS)."
    )
    on_rejected: OnRejected | None = None
    freshness: Freshness | None = None


class ResolvedTransformation(TransformationDefinition):
    """A transformation whose inputs are always given."""

    inputs: Inputs


class ResolvedPipeline(Sent):
    """What a run carries: everything by value, connectors by id.

    Strict although it travels in an event: a definition that a reader does not wholly understand must not run.
    """

    name: Name
    replicate: ResolvedReplicate | None = None
    sources: Needed[dict[Name, ResolvedSource]] = Field(default_factory=dict)
    transformations: OfItsOwn[Many[ResolvedTransformation]] = ()
    destinations: Needed[Many[ResolvedDestination]] = ()
    parameters: OfItsOwn[dict[Name, Parameter]] = Field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: float | None = None
    on_rejected: OnRejected | None = None
    approved: tuple[DestinationDifference, ...] = ()
    """Differences of schema that destinations with `schema_policy: pause` may make."""
    runs_on: tuple[Label, ...] = ()
    """Left out where there are none: an executor that knows nothing of labels must not run what asks for some."""

    @property
    def connector_ids(self) -> frozenset[UUID]:
        """Whose configurations a run needs."""
        if self.replicate is not None:
            return frozenset({self.replicate.from_.connector_id, self.replicate.to.connector_id})
        sources = {source.connector_id for source in self.sources.values()}
        return frozenset(sources | {destination.connector_id for destination in self.destinations})


class _PipelineChanged(Message):
    """What every message about one pipeline says."""

    pipeline_id: UUID
    name: str


class PipelineCreated(_PipelineChanged):
    """A pipeline was saved for the first time."""

    event_type: ClassVar[str] = "pipeline.created.v1"
    said_by: ClassVar[str] = "scheduler"
    version: int
    connector_ids: tuple[UUID, ...]


class PipelineUpdated(_PipelineChanged):
    """A pipeline has a new version."""

    event_type: ClassVar[str] = "pipeline.updated.v1"
    said_by: ClassVar[str] = "scheduler"
    version: int
    connector_ids: tuple[UUID, ...]


class PipelineDeleted(_PipelineChanged):
    """A pipeline is gone; its runs stay."""

    event_type: ClassVar[str] = "pipeline.deleted.v1"
    said_by: ClassVar[str] = "scheduler"
    ends: ClassVar[bool] = True


class PipelinePaused(_PipelineChanged):
    """A pipeline's triggers rest until it is resumed."""

    event_type: ClassVar[str] = "pipeline.paused.v1"
    said_by: ClassVar[str] = "scheduler"


class PipelineResumed(_PipelineChanged):
    """A pipeline's triggers fire again."""

    event_type: ClassVar[str] = "pipeline.resumed.v1"
    said_by: ClassVar[str] = "scheduler"


class PipelineBlocked(_PipelineChanged):
    """A pipeline cannot run until somebody has cured the reason."""

    event_type: ClassVar[str] = "pipeline.blocked.v1"
    said_by: ClassVar[str] = "scheduler"
    reason: str


class PipelineLate(_PipelineChanged):
    """No run of it has succeeded by the time that its schedule, or its wish for freshness, says."""

    event_type: ClassVar[str] = "pipeline.late.v1"
    said_by: ClassVar[str] = "scheduler"
    expected_by: Time
    last_success_at: Time | None = None


class PipelineRecovered(_PipelineChanged):
    """It is not late any more: a run succeeded, it was paused, or what is expected of it has changed."""

    event_type: ClassVar[str] = "pipeline.recovered.v1"
    said_by: ClassVar[str] = "scheduler"
    late_since: Time
    reason: Literal["succeeded", "paused", "changed"]


class EmptiedSource(Told):
    """A source that was read whole and gave no rows."""

    source: str = Field(description="Its stage in the ledger.")
    stream: str | None = Field(None, description="What was read; a query has none.")
    rows_before: int = Field(description="How many it gave in the last good run before.")


class PipelineEmptied(_PipelineChanged):
    """A run succeeded in which sources gave no rows where they gave some in the last good run before."""

    event_type: ClassVar[str] = "pipeline.emptied.v1"
    said_by: ClassVar[str] = "executor"
    run_id: UUID
    sources: tuple[EmptiedSource, ...]
