"""Connectors, loop: works off discoveries asked for, several at once, and lets those who wait know."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from dataaggregator import errors
from dataaggregator.db import Database
from dataaggregator.errors import PlatformError, Transient
from dataaggregator.http.problems import internal_error
from dataaggregator.telemetry import logs
from services.connectors import discoveries, store
from services.connectors.commands import ConnectorCommands
from services.connectors.discoveries import Discovery
from services.connectors.domain import Connector
from services.connectors.probe import PROBE_SECONDS, Probe

log = logs.get(__name__)

AT_ONCE = 4
POLL_SECONDS = 2.0
WAIT_POLL_SECONDS = 0.1
CLAIM_SECONDS = PROBE_SECONDS + 10.0
"""Longer than a probe may take: whoever holds a claim beyond that has died."""


@dataclass(frozen=True)
class Discoverer:
    database: Database
    commands: ConnectorCommands
    probe: Probe
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(self, workspace: UUID, reference: str) -> Discovery:
        async with self.database.transaction(workspace) as tx:
            connector = await store.get(tx, workspace, reference, lock=True)
            discovery = await discoveries.request(tx, connector)
        self._wake.set()
        return discovery

    async def wait(self, connector: Connector, id_: UUID) -> None:
        """Until that discovery has ended; raises what it ended with, or Transient when it takes too long."""
        deadline = asyncio.get_running_loop().time() + PROBE_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            async with self.database.transaction(connector.workspace_id) as tx:
                discovery = await discoveries.find(tx, connector)
            if discovery is None or discovery.id != id_ or discovery.finished_at is not None:
                if discovery is not None and discovery.problem is not None:
                    raise error_of(discovery.problem)
                return
            await asyncio.sleep(WAIT_POLL_SECONDS)
        raise Transient("discovery-running", "The discovery takes longer; ask again without refresh.", retry_after=5)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(AT_ONCE):
                workers.create_task(self._work())

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                async with self.database.glance() as connection:
                    discovery = await discoveries.claim(connection, CLAIM_SECONDS)
                if discovery is not None:
                    await self._discover(discovery)
                    continue
            except PlatformError as error:
                log.warning("discovery_waits", code=error.code, reason=error.detail)
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _discover(self, discovery: Discovery) -> None:
        """Whatever a source calls its streams, it ends the discovery and never the loop."""
        streams: list[dict[str, Any]] = []
        problem: Mapping[str, Any] | None = None
        try:
            opened = await self.commands.open(discovery.workspace_id, str(discovery.connector_id))
            streams = await self.probe.discover(discovery.workspace_id, opened.use)
        except PlatformError as error:
            problem = _problem(error)
        try:
            await self._end(discovery, problem, streams)
        except PlatformError:
            raise
        except Exception as bug:
            log.bug("discovery_not_stored", bug, connector_id=str(discovery.connector_id))
            await self._end(discovery, _problem(internal_error()), ())

    async def _end(
        self, discovery: Discovery, problem: Mapping[str, Any] | None, streams: Sequence[Mapping[str, Any]]
    ) -> None:
        async with self.database.transaction(discovery.workspace_id) as tx:
            if await discoveries.finish(tx, discovery, problem) and problem is None:
                await discoveries.set_streams(tx, discovery, streams)


def _problem(error: PlatformError) -> Mapping[str, Any]:
    return {"kind": type(error).__name__, "code": error.code, "detail": error.detail}


def error_of(problem: Mapping[str, Any]) -> PlatformError:
    """The error a discovery ended with, as it was."""
    kind = getattr(errors, problem["kind"], errors.Permanent)
    made: PlatformError = kind(problem["code"], problem["detail"])
    return made
