"""Contracts: what is said about a run, from the wish to the end."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from dataaggregator.contracts.base import Message, Time, Told
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.contracts.ledger import Receipt
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.priorities import Priority

RunStatus = Literal["queued", "running", "succeeded", "failed", "cancelled", "timed_out", "skipped"]
RunTrigger = Literal["manual", "cron", "every", "after", "webhook", "files", "retry", "replay", "backfill"]
Share = Annotated[float, Field(ge=0, le=1)]
Attempt = Annotated[int, Field(description="Counted from 1.")]


class RunStanding(Told):
    """How a run stands, as far as the scheduler knows: for the gateway, when somebody follows it."""

    status: RunStatus

    @staticmethod
    def path(run: str) -> str:
        return f"/internal/runs/{run}/standing"


class RunError(Told):
    """Why an attempt or a run did not succeed; `help` is the section of the guide that cures it."""

    code: str
    detail: str
    help: str | None = None
    stage: str | None = None
    retryable: bool = False


class RunCounts(Told):
    """A run's totals: read sums over its sources, written over its destinations."""

    rows_read: int = 0
    rows_written: int = 0
    rows_filtered: int = 0
    rows_rejected: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class StageProgress(Told):
    """How far one stage is."""

    stage: str
    kind: str
    read: int = 0
    written: int = 0
    filtered: int = 0
    rejected: int = 0


class DestinationOutcome(Told):
    """How the run ended for one destination."""

    connector: str
    stream: str
    status: Literal["succeeded", "failed", "cancelled"]
    receipt: Receipt | None = None
    error: RunError | None = None
    waiting: tuple[SchemaDifference, ...] = Field((), description="Differences of schema that wait for approval.")


class Replay(Told):
    """Which rejected rows of the parent run are its source, all unless a stage or a rule is named."""

    stage: str | None = None
    rule: str | None = None
    overwrite: bool = Field(False, description="Also where runs that came later may have newer values.")


class _AboutRun(Message):
    """What every message about one run says."""

    run_id: UUID
    pipeline_id: UUID


class RunQueued(_AboutRun):
    """Somebody or something asked for a run; everything an executor needs but the connectors' configuration."""

    event_type: ClassVar[str] = "run.queued.v1"
    said_by: ClassVar[str] = "scheduler"
    pipeline_name: str
    pipeline_version: int
    trigger: RunTrigger
    parameters: dict[str, Any] = Field(default_factory=dict)
    full_refresh: bool = Field(False, description="Read everything again, whatever the cursors say.")
    interval_start: Time | None = None
    interval_end: Time | None = None
    parent_run_id: UUID | None = Field(None, description="The run that this one repeats, or replays rows of.")
    replay: Replay | None = None
    backfill_id: UUID | None = Field(None, description="The backfill whose slot the interval is: nothing else is read.")
    definition: ResolvedPipeline
    queued_at: Time
    priority: Priority = Field("normal", description="Which of a workspace's runs begins first.")
    lane: int = Field(
        0, description="From 1 where several of the pipeline run side by side, each in a lane of its own."
    )


class RunStarted(_AboutRun):
    """An executor works on it."""

    event_type: ClassVar[str] = "run.started.v1"
    said_by: ClassVar[str] = "executor"
    attempt: Attempt
    executor: str = Field(description="Which one, as a name for people.")
    started_at: Time


class RunProgressed(_AboutRun):
    """How far it is; ephemeral."""

    event_type: ClassVar[str] = "run.progressed.v1"
    said_by: ClassVar[str] = "executor"
    ephemeral: ClassVar[bool] = True
    attempt: Attempt
    progress: Share | None = Field(None, description="From 0 to 1, where the sources tell how much there is.")
    stages: tuple[StageProgress, ...] = ()
    rows_read: int = 0
    rows_written: int = 0


class RunAttemptFailed(_AboutRun):
    """An attempt failed; with `retry_at` another one comes."""

    event_type: ClassVar[str] = "run.attempt_failed.v1"
    said_by: ClassVar[str] = "executor"
    attempt: Attempt
    error: RunError
    retry_at: Time | None = Field(None, description="When the next attempt may begin; without it this was the last.")


class RunCancelRequested(_AboutRun):
    """Somebody wants it to stop; the executor obeys."""

    event_type: ClassVar[str] = "run.cancel_requested.v1"
    said_by: ClassVar[str] = "scheduler"
    requested_by: str = Field(description="Their e-mail.")
    requested_at: Time


class RunEnded(_AboutRun):
    """What the four ends of a run say; an ended run never changes."""

    ends: ClassVar[bool] = True
    attempt: Attempt
    started_at: Time | None = None
    finished_at: Time
    counts: RunCounts = RunCounts()
    balanced: bool | None = Field(None, description="Does the ledger add up? Not known of what never came so far.")
    destinations: tuple[DestinationOutcome, ...] = ()
    warnings: tuple[str, ...] = ()
    error: RunError | None = None


class RunSucceeded(RunEnded):
    """Every destination has its rows and the ledger balances."""

    event_type: ClassVar[str] = "run.succeeded.v1"
    said_by: ClassVar[str] = "executor"


class RunFailed(RunEnded):
    """No attempt is left, or none would help."""

    event_type: ClassVar[str] = "run.failed.v1"
    said_by: ClassVar[str] = "executor"


class RunCancelled(RunEnded):
    """It was stopped by wish."""

    event_type: ClassVar[str] = "run.cancelled.v1"
    said_by: ClassVar[str] = "executor"


class RunTimedOut(RunEnded):
    """It ran, stood still or waited longer than allowed."""

    event_type: ClassVar[str] = "run.timed_out.v1"
    said_by: ClassVar[str] = "executor"


class RunSkipped(_AboutRun):
    """It was due but never begun, for a reason."""

    event_type: ClassVar[str] = "run.skipped.v1"
    said_by: ClassVar[str] = "scheduler"
    ends: ClassVar[bool] = True
    reason: str
