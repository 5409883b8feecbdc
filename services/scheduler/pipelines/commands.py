"""Pipelines, commands: create, save, delete, pause, resume; each one transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataaggregator.bus import audit as trail
from dataaggregator.contracts.apply import differences
from dataaggregator.contracts.connector import DestinationDifference
from dataaggregator.contracts.pipeline import (
    PipelineBlocked,
    PipelineCreated,
    PipelineDefinition,
    PipelineDeleted,
    PipelinePaused,
    PipelineResumed,
    PipelineUpdated,
)
from dataaggregator.db import Connection, Database
from dataaggregator.db.quota import Quota
from dataaggregator.definition import Audited, Author, Edit
from dataaggregator.errors import Conflict
from dataaggregator.ids import new_id
from services.scheduler import outbox
from services.scheduler.backfills import commands as backfills
from services.scheduler.pipelines import connectors, material, schedules, store, upstreams
from services.scheduler.pipelines.domain import Connector, Pipeline, Status, connectors_named, pipelines_named
from services.scheduler.quota import NO_QUOTA
from services.scheduler.runs.commands import hand_over_next, stop_all

PROJECTION_SECONDS = 2.0
"""How long a definition waits for the connector it names: connector.created may still be on its way."""
PROJECTION_POLL_SECONDS = 0.05

Keep = Callable[[UUID, Collection[UUID]], Awaitable[Set[UUID]]]
"""Asks the owner of a workspace's connectors which of these are there; a deletion of one that is under way gives up."""


@dataclass(frozen=True)
class PipelineCommands:
    database: Database
    keep: Keep
    quota: Quota = NO_QUOTA

    async def create(self, workspace: UUID, author: Author, definition: PipelineDefinition) -> Pipeline:
        await self.await_connectors(workspace, connectors_named(definition))
        async with self.database.transaction(workspace) as tx:
            used = await material.checked(tx, workspace, definition)
            made = await set_down(tx, await store.add(tx, workspace, new_id(), definition, author), used, author)
            await self.quota.check(tx, workspace)
            return made

    async def save(self, workspace: UUID, reference: str, author: Author, edit: Edit[PipelineDefinition]) -> Pipeline:
        """A new version; the same definition again changes nothing. A blocked pipeline that is right again goes on."""
        async with self.database.transaction(workspace) as tx:
            current = await store.get(tx, workspace, reference)
            wanted = edit.change(current)
        await self.await_connectors(workspace, connectors_named(wanted), current.id)
        async with self.database.transaction(workspace) as tx:
            if pipelines_named(wanted):
                await upstreams.hold(tx, workspace)
            before = await store.get(tx, workspace, reference, lock="FOR UPDATE")
            edit.expect(before.version)
            definition = edit.change(before)
            if definition == before.find_definition():
                return before
            used = await material.checked(tx, workspace, definition, before.id)
            after = await set_down(tx, await store.save(tx, before, definition, author), used, author)
            await self.quota.check(tx, workspace)
            return after

    async def delete(self, workspace: UUID, reference: str, author: Author, expect: Callable[[int], None]) -> None:
        """Its runs and slots stay; what has not ended or is due is skipped or asked to stop."""
        async with self.database.transaction(workspace) as tx:
            pipeline = await store.get(tx, workspace, reference, lock="FOR UPDATE")
            expect(pipeline.version)
            if users := await upstreams.users(tx, workspace, pipeline.id):
                raise Conflict("pipeline-in-use", f"Pipelines come after {pipeline.name!r}: {', '.join(users)}.")
            await backfills.stop_all(tx, pipeline, author)
            await stop_all(tx, pipeline, author)
            await schedules.retire(tx, pipeline.id, "pipeline-deleted")
            await store.remove(tx, pipeline)
            deleted = PipelineDeleted(pipeline_id=pipeline.id, name=pipeline.name)
            await outbox.emit(tx, workspace, pipeline.id, deleted)
            await _audit(tx, pipeline, author, "pipeline.deleted", trail.went(pipeline))

    async def pause(self, workspace: UUID, reference: str, author: Author) -> Pipeline:
        """Its triggers rest and no run starts; what runs goes on. Pausing a paused one changes nothing."""
        async with self.database.transaction(workspace) as tx:
            pipeline = await store.get(tx, workspace, reference, lock="FOR UPDATE")
            if pipeline.status is Status.PAUSED:
                return pipeline
            paused = await store.set_status(tx, pipeline, Status.PAUSED)
            message = PipelinePaused(pipeline_id=paused.id, name=paused.name)
            await outbox.emit(tx, workspace, paused.id, message)
            await _audit(tx, paused, author, "pipeline.paused", {"name": paused.name, "version": paused.version})
            return paused

    async def resume(self, workspace: UUID, reference: str, author: Author) -> Pipeline:
        """Only a pipeline whose definition is right: raises Invalid if a connector or transformation is gone."""
        async with self.database.transaction(workspace) as tx:
            pipeline = await store.get(tx, workspace, reference, lock="FOR UPDATE")
            if pipeline.status is Status.ACTIVE:
                return pipeline
            resumed = await _go_on(tx, pipeline)
            await _audit(tx, resumed, author, "pipeline.resumed", {"name": resumed.name, "version": resumed.version})
            return resumed

    async def approve_schema(
        self,
        workspace: UUID,
        reference: str,
        author: Author,
        wanted: Sequence[DestinationDifference] | None,
        expect: Callable[[int], None],
    ) -> Pipeline:
        """Its runs may make these changes; when none waits any more it is active again. Raises Conflict."""
        async with self.database.transaction(workspace) as tx:
            pipeline = await store.get(tx, workspace, reference, lock="FOR UPDATE")
            expect(pipeline.version)
            chosen = pipeline.approve(wanted)
            approved = tuple(dict.fromkeys((*pipeline.approved, *chosen)))
            rest = [one for one in pipeline.waiting if one not in chosen]
            after = await store.set_approved(tx, pipeline, approved, rest)
            detail = {"name": after.name, "changes": [one.model_dump(mode="json") for one in chosen]}
            await outbox.audit(tx, workspace, author, Audited("pipeline.schema_approved", "pipeline", after.id, detail))
            return after if rest else await _go_on(tx, after)

    async def let_go(self, workspace: UUID, connector: Connector) -> None:
        """Before its owner deletes it: raises Conflict if a pipeline uses it, else no definition may name it any more.

        If it is not deleted after all, the next definition that names it finds that out.
        """
        async with self.database.transaction(workspace) as tx:
            await connectors.set_leaving(tx, workspace, connector, new_id())
            if users := await connectors.users(tx, workspace, connector.id):
                raise Conflict(
                    "connector-in-use", f"Pipelines use the connector {connector.name!r}: {', '.join(users)}."
                )

    async def await_connectors(self, workspace: UUID, names: Set[str], pipeline: UUID | None = None) -> None:
        """Those that a definition names may be on their way, or were to go and stay after all."""
        asked = set[UUID]()
        deadline = asyncio.get_running_loop().time() + PROJECTION_SECONDS
        while True:
            async with self.database.transaction(workspace) as tx:
                known = await connectors.named(tx, workspace, names, pipeline)
                leaving = await connectors.leaving(tx, workspace, names - known.keys())
            if len(known) == len(names) or asyncio.get_running_loop().time() > deadline:
                return
            leaving = {id_: token for id_, token in leaving.items() if token not in asked}
            if leaving:
                asked.update(leaving.values())
                await self._ask_to_stay(workspace, leaving)
            else:
                await asyncio.sleep(PROJECTION_POLL_SECONDS)

    async def _ask_to_stay(self, workspace: UUID, leaving: dict[UUID, UUID]) -> None:
        """A deletion was refused, has failed, or is under way and gives up; the token says that no other has begun."""
        there = await self.keep(workspace, leaving)
        async with self.database.transaction(workspace) as tx:
            await connectors.stay(tx, workspace, {id_: token for id_, token in leaving.items() if id_ in there})


async def set_down(tx: Connection, pipeline: Pipeline, used: material.Used, author: Author) -> Pipeline:
    """What follows from a new version: what it uses, when it fires, who hears of it; one that was blocked goes on."""
    await store.set_uses(tx, pipeline, used.transformations, used.connectors)
    await schedules.set_triggers(tx, pipeline, used.pipelines)
    said, action = (PipelineCreated, "created") if pipeline.version == 1 else (PipelineUpdated, "updated")
    message = said(
        pipeline_id=pipeline.id, name=pipeline.name, version=pipeline.version, connector_ids=_ids(used.connectors)
    )
    await outbox.emit(tx, pipeline.workspace_id, pipeline.id, message)
    before = await store.find_written_before(tx, pipeline)
    told = trail.came(pipeline) if before is None else trail.changed(pipeline, differences(before, pipeline.written))
    await _audit(tx, pipeline, author, f"pipeline.{action}", told)
    if pipeline.definition.concurrency > 1:  # than before, perhaps
        await hand_over_next(tx, pipeline.workspace_id, [pipeline.id])
    return await _activate(tx, pipeline) if pipeline.status is Status.BLOCKED else pipeline


async def block(
    tx: Connection, pipeline: Pipeline, reason: str, waiting: Sequence[DestinationDifference] = ()
) -> Pipeline:
    """A locked pipeline that cannot run until somebody cures the reason, or approves what waits."""
    blocked = await store.set_status(tx, pipeline, Status.BLOCKED, reason, waiting)
    message = PipelineBlocked(pipeline_id=blocked.id, name=blocked.name, reason=reason)
    await outbox.emit(tx, blocked.workspace_id, blocked.id, message)
    return blocked


async def _go_on(tx: Connection, pipeline: Pipeline) -> Pipeline:
    """Only a pipeline whose definition is right: raises Invalid if a connector or transformation is gone."""
    await material.resolved(tx, pipeline)
    names = pipelines_named(pipeline.definition)
    others = await upstreams.named(tx, pipeline.workspace_id, names, pipeline.id) if names else {}
    await schedules.set_triggers(tx, pipeline, others)
    return await _activate(tx, pipeline)


async def _activate(tx: Connection, pipeline: Pipeline) -> Pipeline:
    active = await store.set_status(tx, pipeline, Status.ACTIVE)
    resumed = PipelineResumed(pipeline_id=active.id, name=active.name)
    await outbox.emit(tx, active.workspace_id, active.id, resumed)
    return active


async def _audit(tx: Connection, pipeline: Pipeline, author: Author, action: str, detail: Mapping[str, Any]) -> None:
    await outbox.audit(tx, pipeline.workspace_id, author, Audited(action, "pipeline", pipeline.id, detail))


def _ids(known: Mapping[str, Connector]) -> tuple[UUID, ...]:
    return tuple(sorted({connector.id for connector in known.values()}))
