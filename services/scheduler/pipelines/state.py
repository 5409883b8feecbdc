"""Pipelines, HTTP door: where reading goes on; which pipeline is meant is known here, how far it is to executors."""

from collections.abc import Sequence
from dataclasses import dataclass

from dataaggregator.contracts.state import PipelineState
from dataaggregator.db import Database
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.scheduler.pipelines import store

TAG = "Pipelines"
STATE_SECONDS = 10.0


@dataclass(frozen=True)
class StateApi:
    database: Database
    services: ServiceClient

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "GET", "/api/pipelines/{pipeline}/state", self.get,
                "Show where reading goes on, per source stream and destination", TAG,
                Permission.RUNS_READ, answers={200: PipelineState},
            ),
        )  # fmt: skip

    async def get(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            pipeline = await store.get(tx, call.workspace, call.path["pipeline"])
        path = f"/internal/pipelines/{pipeline.id}/state"
        told = await self.services.get("executor", path, workspace=call.workspace, timeout_seconds=STATE_SECONDS)
        return Answer(PipelineState.model_validate(told))
