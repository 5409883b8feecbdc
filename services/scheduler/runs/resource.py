"""Runs, HTTP door: what answers and queries look like."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.contracts.capacity import WaitingFor
from dataaggregator.contracts.priorities import Priority
from dataaggregator.contracts.run import DestinationOutcome, RunError, RunStatus, RunTrigger
from dataaggregator.http.paging import PageQuery
from services.scheduler.runs.domain import Run, Status

MILLISECONDS = 1000


class AttemptShown(BaseModel):
    """One try of an executor."""

    model_config = ConfigDict(from_attributes=True)
    number: int
    executor: str
    started_at: datetime
    ended_at: datetime | None
    error: RunError | None


class RunShown(BaseModel):
    """A run; its totals sum over sources and over destinations, final when it has ended."""

    id: UUID
    workspace_id: UUID
    pipeline_id: UUID
    pipeline_name: str
    pipeline_version: int
    trigger: RunTrigger
    parent_run_id: UUID | None
    backfill_id: UUID | None
    parameters: dict[str, Any]
    full_refresh: bool
    priority: Priority
    runs_on: list[str] = Field(description="Labels that an executor has to have to take it.")
    waiting_for: WaitingFor | None = Field(
        description="Of a queued run: what it waits for, if that is something else than a free slot."
    )
    interval_start: datetime | None
    interval_end: datetime | None
    status: RunStatus
    attempts: list[AttemptShown]
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    retry_at: datetime | None
    cancel_requested_at: datetime | None
    duration_ms: int | None = Field(description="From the first attempt's start to the end.")
    rows_read: int
    rows_written: int
    rows_filtered: int
    rows_rejected: int
    bytes_read: int
    bytes_written: int
    progress: float | None = Field(description="0 to 1 where the sources could say how many rows to expect.")
    balanced: bool | None
    destinations: list[DestinationOutcome]
    warnings: list[str]
    error: RunError | None
    trace_id: str | None


class RunWish(BaseModel):
    """What a run by hand is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    parameters: dict[str, Any] = Field(default_factory=dict)
    full_refresh: bool = False
    priority: Priority | None = Field(None, description="The pipeline's own where none is given.")


class RejectedWish(BaseModel):
    """Which rejected rows go through once more, by which version of the pipeline; the newest one without."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stage: Annotated[str | None, Field(max_length=200, description="Only rows this stage rejected.")] = None
    rule: Annotated[str | None, Field(max_length=200, description="Only rows this rule rejected.")] = None
    version: Annotated[int | None, Field(ge=1, description="The one the run had, or the newest.")] = None
    overwrite: bool = Field(False, description="Also where runs that came later may have newer values.")


class RunQuery(PageQuery):
    """`status` takes several, comma-separated; `pipeline` is an id or a name."""

    status: Annotated[str | None, Field(pattern=f"^({'|'.join(Status)})(,({'|'.join(Status)}))*$")] = None
    pipeline: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    trigger: RunTrigger | None = None
    parent_run_id: UUID | None = None
    backfill_id: UUID | None = None
    sort: Literal["queued_at", "-queued_at"] | None = None


class HistoryQuery(PageQuery):
    sort: Literal["queued_at", "-queued_at"] | None = None


def shown(run: Run, waiting_for: WaitingFor | None = None) -> RunShown:
    asked, counts = run.asked, run.counts
    duration = run.finished_at - run.started_at if run.finished_at and run.started_at else None
    return RunShown(
        id=run.id,
        workspace_id=run.workspace_id,
        pipeline_id=run.pipeline_id,
        pipeline_name=run.pipeline_name,
        pipeline_version=run.pipeline_version,
        trigger=asked.trigger,
        parent_run_id=asked.parent_run_id,
        backfill_id=asked.backfill_id,
        parameters=dict(asked.parameters),
        full_refresh=asked.full_refresh,
        priority=run.priority,
        runs_on=list(run.definition.get("runs_on") or ()),
        waiting_for=waiting_for,
        interval_start=asked.interval_start,
        interval_end=asked.interval_end,
        status=run.status.value,
        attempts=[AttemptShown.model_validate(attempt) for attempt in run.attempts],
        queued_at=run.queued_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        retry_at=run.retry_at,
        cancel_requested_at=run.cancel_requested_at,
        duration_ms=round(duration.total_seconds() * MILLISECONDS) if duration is not None else None,
        rows_read=counts.rows_read,
        rows_written=counts.rows_written,
        rows_filtered=counts.rows_filtered,
        rows_rejected=counts.rows_rejected,
        bytes_read=counts.bytes_read,
        bytes_written=counts.bytes_written,
        progress=run.progress,
        balanced=run.balanced,
        destinations=list(run.destinations),
        warnings=list(run.warnings),
        error=run.error,
        trace_id=run.trace_id,
    )
