"""Pipelines: what scheduler and connectors service ask each other before a connector is deleted (ADR 0021)."""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.route import Route
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.pipelines.domain import Connector

KEEP_SECONDS = 10.0


class LeavingConnector(BaseModel):
    """A connector that is about to be deleted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    type: str


@dataclass(frozen=True)
class LeavingApi:
    commands: PipelineCommands

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "POST", "/internal/connectors/{connector:id}/leave", self.leave, "Let a connector be deleted",
                "internal", None, body=LeavingConnector, answers={204: None}, problems=(409,), internal=True,
            ),
        )  # fmt: skip

    async def leave(self, call: Call) -> Answer:
        asked = call.body_as(LeavingConnector)
        connector = Connector(UUID(call.path["connector"]), asked.name, asked.type)
        await self.commands.let_go(call.workspace, connector)
        return Answer(status=204)


@dataclass(frozen=True)
class Owner:
    """The connectors service, asked for connectors that were to be deleted."""

    services: ServiceClient

    async def keep(self, workspace: UUID, connectors: Collection[UUID]) -> Set[UUID]:
        """Those of these that are there; none of them can now be deleted by a call that has begun before."""
        body = {"connector_ids": [str(id_) for id_ in connectors]}
        answer = await self.services.post(
            "connectors", "/internal/connectors/keep", body, workspace=workspace, timeout_seconds=KEEP_SECONDS
        )
        return {UUID(id_) for id_ in answer["connector_ids"]}
