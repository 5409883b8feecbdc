"""Connectors: a question that only the scheduler can answer, because pipelines are its own (ADR 0021)."""

from dataclasses import dataclass

from dataaggregator.http.client import ServiceClient
from services.connectors.domain import Connector

LEAVE_SECONDS = 10.0


@dataclass(frozen=True)
class Pipelines:
    services: ServiceClient

    async def let_go(self, connector: Connector) -> None:
        """Raises Conflict if a pipeline uses it; else none can be saved with it, until it is asked to stay."""
        body = {"name": connector.name, "type": connector.definition.type}
        path = f"/internal/connectors/{connector.id}/leave"
        await self.services.post(
            "scheduler", path, body, workspace=connector.workspace_id, timeout_seconds=LEAVE_SECONDS
        )
