"""Runs, commands: rejected rows of an ended run through the pipeline once more, as a new run."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from asyncpg import UniqueViolationError

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.run import Replay
from dataaggregator.db import Connection, Database
from dataaggregator.definition import Author
from dataaggregator.errors import Conflict, FieldError, Invalid
from dataaggregator.http.client import ServiceClient
from services.scheduler.pipelines import material
from services.scheduler.pipelines import store as pipelines
from services.scheduler.pipelines.domain import Pipeline, parameters
from services.scheduler.runs import store
from services.scheduler.runs.commands import Resolved, add, made
from services.scheduler.runs.domain import Asked, Run

CHECK_SECONDS = 20.0


@dataclass(frozen=True)
class ReplayWish:
    """A replay that a person asks for; asked for again under the same `run_id` it is the same run."""

    replay: Replay
    version: int | None = None
    run_id: UUID | None = None


@dataclass(frozen=True)
class _Intended:
    resolved: Resolved
    parameters: dict[str, Any]


@dataclass(frozen=True)
class ReplayCommands:
    """Whether rows can be replayed is known where they lie: executors are asked before the run is."""

    database: Database
    services: ServiceClient

    async def replay(self, workspace: UUID, id_: UUID, author: Author, wish: ReplayWish) -> Run:
        async with self.database.transaction(workspace) as tx:
            before, pipeline = await _of(tx, workspace, id_)
            if wish.run_id is not None and (again := await store.find(tx, workspace, wish.run_id)) is not None:
                return again
            pipeline.must_be_active()
            await _must_be_only(tx, before)
            intended = await _intended(tx, pipeline, before, wish.version)
        await self._check(before, intended, wish.replay)
        asked = Asked(
            "replay", intended.parameters, parent_run_id=before.id, run_id=wish.run_id, replay=wish.replay,
            interval_start=before.asked.interval_start, interval_end=before.asked.interval_end,
            priority=before.priority,
        )  # fmt: skip
        async with self.database.transaction(workspace) as tx:
            pipeline = await pipelines.get(tx, workspace, str(pipeline.id), lock="FOR UPDATE")
            turn = await store.turn(tx, workspace, pipeline.id, wish.run_id)
            if turn.asked_before is not None:
                return await store.get(tx, workspace, turn.asked_before)
            pipeline.must_be_active()
            try:
                return await add(tx, made(pipeline, asked, turn.now, intended.resolved), pipeline, turn, author)
            except UniqueViolationError as error:
                if error.constraint_name != "runs_one_replay":
                    raise
                raise _under_way() from error

    async def _check(self, before: Run, intended: _Intended, replay: Replay) -> None:
        """Raises what the executor says against it."""
        body = {
            "definition": intended.resolved.definition.model_dump(mode="json", exclude_unset=True),
            "parameters": intended.parameters,
            "replay": replay.model_dump(mode="json"),
        }
        path = f"/internal/runs/{before.id}/replay"
        await self.services.post("executor", path, body, workspace=before.workspace_id, timeout_seconds=CHECK_SECONDS)


async def _of(tx: Connection, workspace: UUID, id_: UUID) -> tuple[Run, Pipeline]:
    before = await store.get(tx, workspace, id_)
    before.must_have_ended()
    return before, await pipelines.get(tx, workspace, str(before.pipeline_id))


async def _must_be_only(tx: Connection, before: Run) -> None:
    if await store.find_replay(tx, before.workspace_id, before.id) is not None:
        raise _under_way()


def _under_way() -> Conflict:
    return Conflict("replay-under-way", "Rejected rows of this run are being replayed; wait for the end of that run.")


async def _intended(tx: Connection, pipeline: Pipeline, before: Run, version: int | None) -> _Intended:
    """The newest version, unless the one the run had is wished."""
    if version == before.pipeline_version and version != pipeline.version:
        definition = ResolvedPipeline.model_validate(before.definition)
        definition = definition.model_copy(update={"approved": pipeline.approved})
        return _Intended(Resolved(version, definition), dict(before.asked.parameters))
    if version not in (None, pipeline.version):
        known = f"{before.pipeline_version}, which the run had, or {pipeline.version}, the newest"
        raise Invalid(
            "body-invalid", "One field is wrong.", errors=[FieldError("version", f"should be {known}", "version")]
        )
    given = {name: value for name, value in before.asked.parameters.items() if name in pipeline.definition.parameters}
    resolved = Resolved(pipeline.version, await material.resolved(tx, pipeline))
    return _Intended(resolved, parameters(pipeline.definition, given))
