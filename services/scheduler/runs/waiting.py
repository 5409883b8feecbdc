"""Runs: what queued runs wait for; of those that are handed over the executors know, asked when somebody looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import ValidationError

from dataaggregator.catalogue import help_section
from dataaggregator.contracts.capacity import WAITING_PATH, WaitingFor, WaitingRuns, WaitingWish
from dataaggregator.errors import PlatformError
from dataaggregator.http.client import ServiceClient
from dataaggregator.telemetry import logs
from services.scheduler.runs.domain import Run, Status

_log = logs.get(__name__)

ASK_SECONDS = 2.0
BUSY = "pipeline-busy"


@dataclass(frozen=True)
class Waiting:
    services: ServiceClient

    async def of(self, workspace: UUID, runs: Sequence[Run]) -> Mapping[UUID, WaitingFor]:
        """Without those that wait for a free slot only; without an executor that answers nothing is known of others."""
        queued = [run for run in runs if run.status is Status.QUEUED]
        found = {run.id: _turn(run) for run in queued if run.handed_over_at is None}
        with_executors = tuple(run.id for run in queued if run.handed_over_at is not None)
        return {**found, **(await self._asked(workspace, with_executors))} if with_executors else found

    async def _asked(self, workspace: UUID, run_ids: tuple[UUID, ...]) -> Mapping[UUID, WaitingFor]:
        wish = WaitingWish(run_ids=run_ids)
        try:
            told = await self.services.post(
                "executor", WAITING_PATH, wish, workspace=workspace, timeout_seconds=ASK_SECONDS
            )
            return WaitingRuns.model_validate(told).runs
        except (PlatformError, ValidationError) as error:
            _log.info("waiting_not_told", detail=error.detail if isinstance(error, PlatformError) else "nonsense")
            return {}


def _turn(run: Run) -> WaitingFor:
    detail = f"Runs of {run.pipeline_name} before it have not ended, and its concurrency lets no more be at work."
    return WaitingFor(code=BUSY, detail=detail, help=help_section(BUSY))
