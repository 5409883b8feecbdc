"""Connectors: questions that only an executor can answer, because runs run there: test, discover, preview."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataaggregator.http.client import ServiceClient

PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class Probe:
    """`use` is a connector's type and opened configuration; it goes over the wire and nowhere else."""

    services: ServiceClient

    async def test(self, workspace: UUID, use: Mapping[str, Any]) -> dict[str, Any]:
        """`{ok, checks}`; a connector that cannot be reached is an answer, not an error."""
        return await self._ask(workspace, {"probe": "connector_test", "connector": use})

    async def discover(self, workspace: UUID, use: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = await self._ask(workspace, {"probe": "discover", "connector": use})
        streams: list[dict[str, Any]] = answer["streams"]
        return streams

    async def preview(self, workspace: UUID, use: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
        return await self._ask(workspace, {"probe": "preview", "connector": use, **wanted})

    async def list_files(self, workspace: UUID, use: Mapping[str, Any], stream: str) -> dict[str, Any]:
        return await self._ask(workspace, {"probe": "list_files", "connector": use, "stream": stream})

    async def _ask(self, workspace: UUID, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self.services.post(
            "executor", "/internal/probe", body, workspace=workspace, timeout_seconds=PROBE_SECONDS
        )
