"""Pipelines, HTTP door: what answers and queries look like."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from dataaggregator.catalogue import help_section
from dataaggregator.contracts.base import Sent
from dataaggregator.contracts.connector import DestinationDifference
from dataaggregator.contracts.dry_run import SAMPLE_ROWS, SampleRows
from dataaggregator.contracts.files import FileState
from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.run import RunStatus, RunTrigger
from dataaggregator.contracts.triggers import Trigger
from dataaggregator.contracts.variants import choose, mark
from dataaggregator.errors import Denied
from dataaggregator.http import definition
from dataaggregator.http.call import Call
from dataaggregator.http.paging import PageQuery
from dataaggregator.permissions import Permission
from services.scheduler.pipelines.store import Shown


class LastRun(BaseModel):
    """The run that was asked for last."""

    id: UUID
    status: RunStatus
    trigger: RunTrigger
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class TriggerProblem(BaseModel):
    """Why a trigger that waits for files cannot look for them; it goes on trying."""

    trigger: dict[str, Any]
    code: str
    detail: str
    help: str
    since: datetime


class PipelineShown(PipelineDefinition):
    """A saved pipeline: its definition, its state, when it fires next and what came of it last."""

    id: UUID
    workspace_id: UUID
    version: int
    created_at: datetime
    updated_at: datetime
    created_by: UUID | None
    status: Literal["active", "paused", "blocked"]
    status_reason: str | None
    next_run_at: datetime | None
    expected_by: datetime | None = Field(description="When the next success is due; null where no clock says so.")
    late_since: datetime | None = Field(description="Since when it is late; null while it is not.")
    last_run: LastRun | None
    trigger_problems: list[TriggerProblem] = Field(description="Of triggers that cannot see what they wait for.")
    schema_changes: tuple[DestinationDifference, ...] = Field(
        (), description="Differences between rows and destinations that wait for approval."
    )


class ApprovalWish(BaseModel):
    """Which of `schema_changes` are approved, as they are shown there; all of them if none are named."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    changes: tuple[DestinationDifference, ...] | None = None


class PipelineVersion(BaseModel):
    """One version; `definition` as its author wrote it."""

    version: int
    definition: dict[str, Any]
    created_at: datetime
    created_by: UUID | None


class SlotShown(BaseModel):
    """One slot as evidence: fired with its run, or skipped with a reason."""

    schedule_id: UUID
    trigger: dict[str, Any]
    slot_at: datetime
    outcome: Literal["fired", "skipped"]
    reason: str | None
    files: list[FileState] | None = Field(description="Those that had arrived, of a trigger that waits for files.")
    run_id: UUID | None
    decided_at: datetime


class PipelineQuery(PageQuery):
    status: Literal["active", "paused", "blocked"] | None = None
    late: bool | None = Field(default=None, description="Only those that are late, or only those that are not.")


class SlotQuery(PageQuery):
    outcome: Literal["fired", "skipped"] | None = None


class TriggerAsked(BaseModel):
    """A trigger to be looked at; fires are counted from `after` (now)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    trigger: Trigger
    after: datetime | None = Field(default=None, description="An aware time; without it now.")
    count: Annotated[int, Field(ge=1, le=100)] = 10


class PlanOptions(Sent):
    """The saved definition alone, and on what it is to be tried."""

    sample_rows: SampleRows = SAMPLE_ROWS
    parameter_values: dict[str, Any] = Field(default_factory=dict, description="As a run is given them.")


class Planned(PipelineDefinition, PlanOptions):
    """A proposed definition, as it would be saved, and on what it is to be tried."""

    def definition(self) -> PipelineDefinition:
        return PipelineDefinition.model_validate(
            {name: getattr(self, name) for name in PipelineDefinition.model_fields}
        )


def _planned(value: Any) -> str:
    return "proposed" if isinstance(value, dict) and not value.keys() <= PlanOptions.model_fields.keys() else "saved"


class PlanWish(
    RootModel[Annotated[Annotated[Planned, mark("proposed")] | Annotated[PlanOptions, mark("saved")], choose(_planned)]]
):
    """A whole definition, or none."""


class Fire(BaseModel):
    """One fire, in UTC and on the wall clock of the trigger's zone."""

    at: datetime
    local: str


class Fires(BaseModel):
    """The next fires; fewer than asked for only if there are no more."""

    timezone: str
    fires: list[Fire]


def shown(found: Shown) -> PipelineShown:
    pipeline = found.pipeline
    state = {
        "status": pipeline.status.value,
        "status_reason": pipeline.status_reason,
        "schema_changes": pipeline.waiting,
        "trigger_problems": [problem | {"help": help_section(problem["code"])} for problem in found.trigger_problems],
        "expected_by": pipeline.expected_by,
        "late_since": pipeline.late_since,
    }
    return definition.shown(PipelineShown, pipeline, **state, next_run_at=found.next_run_at, last_run=found.last_run)


def may_query(call: Call, wanted: PipelineDefinition, current: PipelineDefinition | None) -> None:
    """A query of one's own at a source is written by somebody who may ask the source anything."""
    known = {source.query for source in current.sources.values()} if current is not None else set()
    new = [name for name, source in wanted.sources.items() if source.query is not None and source.query not in known]
    if new and Permission.SOURCE_QUERY not in call.identity.permissions(call.workspace):
        detail = f"Writing a query for a source needs the permission {Permission.SOURCE_QUERY}."
        raise Denied("permission-denied", detail)
