"""Backfills, HTTP door: what answers, bodies and queries look like."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.contracts.base import Moment, Sent, Told
from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.run import RunError
from dataaggregator.http.paging import PageQuery
from services.scheduler.backfills.domain import MOST_AT_ONCE
from services.scheduler.backfills.store import Shown

SlotState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class BackfillAsked(Sent):
    """Which period is loaded again: from a moment on and before another, in slots as long as the interval, so many at
    once. Without `overwrite` every destination needs a version_field."""

    from_: Annotated[Moment, Field(alias="from", description="An aware time.")]
    to: Annotated[Moment, Field(description="An aware time behind it; rows of this very moment are not loaded.")]
    interval: Annotated[Duration, Field(description="Of real time: 1d are 24 hours. At most 10000 slots.")]
    concurrency: Annotated[int, Field(ge=1, le=MOST_AT_ONCE, description="How many slots run at once.")] = 1
    parameters: dict[str, Any] = Field(default_factory=dict, description="As a run is given them.")
    overwrite: Annotated[bool, Field(description="Rows of the intervals may take the place of newer ones.")] = False


class BackfillProgress(BaseModel):
    """How many slots there are, and in which state."""

    slots: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class BackfillShown(Told):
    """A backfill. It has succeeded when every slot has; a slot that failed keeps none of the others from running."""

    id: UUID
    workspace_id: UUID
    pipeline_id: UUID
    pipeline_name: str
    pipeline_version: int
    from_: datetime = Field(alias="from")
    to: datetime
    interval: str
    concurrency: int
    parameters: dict[str, Any]
    overwrite: bool
    status: Literal["running", "succeeded", "failed", "cancelled"]
    progress: BackfillProgress
    created_at: datetime
    created_by: UUID | None
    cancel_requested_at: datetime | None
    finished_at: datetime | None
    error: RunError | None = Field(description="Why no slot can begin any more; a slot that failed has its run's.")


class BackfillSlot(BaseModel):
    """One interval, and the run that was asked for it last."""

    model_config = ConfigDict(from_attributes=True)
    interval_start: datetime
    interval_end: datetime
    status: SlotState
    run_id: UUID | None


class BackfillQuery(PageQuery):
    status: Literal["running", "succeeded", "failed", "cancelled"] | None = None
    sort: Literal["created_at", "-created_at"] | None = None


class BackfillSlotQuery(PageQuery):
    status: SlotState | None = None
    sort: Literal["interval_start", "-interval_start"] | None = None


def shown(found: Shown) -> BackfillShown:
    one = found.backfill
    return BackfillShown(
        id=one.id,
        workspace_id=one.workspace_id,
        pipeline_id=one.pipeline_id,
        pipeline_name=one.pipeline_name,
        pipeline_version=one.pipeline_version,
        from_=one.start,
        to=one.end,
        interval=str(one.interval),
        concurrency=one.concurrency,
        parameters=dict(one.parameters),
        overwrite=one.overwrite,
        status=one.status.value,
        progress=BackfillProgress(**asdict(found.progress)),
        created_at=one.created_at,
        created_by=one.created_by,
        cancel_requested_at=one.cancel_requested_at,
        finished_at=one.finished_at,
        error=one.error,
    )
