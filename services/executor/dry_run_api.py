"""dry_run_api: the executor's HTTP door for the scheduler, which knows the pipelines: definitions tried, not run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataaggregator.contracts.dry_run import DryRun, DryRunAsked
from dataaggregator.dataplane.job import ConnectorUse, CursorSet, DryRunJob, KnownCursor
from dataaggregator.db import Database
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.route import MEBIBYTE, Route
from dataaggregator.ids import new_id
from services.executor.folders import KeptFolders
from services.executor.probe import ProbeRequest, Probes
from services.executor.store import cursors, results
from services.executor.store.results import rows_by_source


@dataclass(frozen=True)
class DryRunApi:
    database: Database
    client: ServiceClient
    probes: Probes
    kept: KeptFolders

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "POST", "/internal/dry-run", self.dry_run, "Try definitions on a sample of their sources", "internal",
                None, body=DryRunAsked, answers={200: DryRun}, problems=(404, 502), internal=True,
                max_body_bytes=4 * MEBIBYTE,
            ),
        )  # fmt: skip

    async def dry_run(self, call: Call) -> Answer:
        asked = call.body_as(DryRunAsked)
        known, by_hand, ledger = await self._before(call.workspace, asked.pipeline_id)
        job = DryRunJob(
            asked=asked,
            connectors=await self._connectors(call.workspace, asked),
            cursors=known,
            set_by_hand=by_hand,
            previous_rows=rows_by_source(ledger),
            # Of a pipeline that is not saved nothing is kept: what nobody has is below an id that nobody has.
            kept=str(self.kept.path(asked.pipeline_id or new_id())),
        )
        told = await self.probes.ask(call.workspace, ProbeRequest(probe="dry_run", dry_run=job))
        return Answer(DryRun.model_validate(told))

    async def _before(
        self, workspace: UUID, pipeline_id: UUID | None
    ) -> tuple[tuple[KnownCursor, ...], tuple[CursorSet, ...], dict[str, Any] | None]:
        """What runs have left behind: cursors, those set by hand, and the ledger of the last good one."""
        if pipeline_id is None:
            return (), (), None
        async with self.database.transaction(workspace) as tx:
            stored = await cursors.list_cursors(tx, workspace, pipeline_id)
            by_hand = await cursors.list_by_hand(tx, workspace, pipeline_id)
            ledger = await results.find_last_ledger(tx, workspace, pipeline_id)
        known = (
            KnownCursor(source=one.source, destination=one.destination, cursor=one.cursor, epoch=one.epoch)
            for one in stored
        )
        return tuple(known), tuple(one.wanted for one in by_hand), ledger

    async def _connectors(self, workspace: UUID, asked: DryRunAsked) -> dict[UUID, ConnectorUse]:
        both = (asked.current, asked.proposed)
        wanted = frozenset[UUID]().union(*(one.definition.connector_ids for one in both if one is not None))
        body = {"connector_ids": sorted(map(str, wanted))}
        opened = await self.client.post("connectors", "/internal/connectors/resolve", body, workspace=workspace)
        return {UUID(found): ConnectorUse.model_validate(use) for found, use in opened["connectors"].items()}
