"""Pipelines, HTTP door: where reading goes on; which pipeline is meant is known here, how far it is to executors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.replicate import ResolvedReplicate
from dataaggregator.contracts.state import PipelineState, StateChange, StateWish
from dataaggregator.dataplane.opening import destination_names
from dataaggregator.db import Database
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.definition import author
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.scheduler.pipelines import material, store

TAG = "Pipelines"
STATE_SECONDS = 10.0


@dataclass(frozen=True)
class StateApi:
    database: Database
    services: ServiceClient

    def routes(self) -> Sequence[Route]:
        path, write, good = "/api/pipelines/{pipeline}/state", Permission.DEFINITIONS_WRITE, {200: PipelineState}
        return (
            Route(
                "GET", path, self.get, "Show where reading goes on, per source stream and destination", TAG,
                Permission.RUNS_READ, answers=good, etag=True,
            ),
            Route(
                "PUT", path, self.put, "Let the next run go on somewhere else", TAG, write,
                body=StateWish, answers=good, problems=(409,), etag=True,
                description="Refused while a run has not ended, and where rows read again would be appended twice.",
            ),
            Route(
                "DELETE", path, self.delete, "Let the next run read everything from the beginning", TAG, write,
                answers={204: None}, problems=(409,), etag=True,
                description="Refused while a run has not ended, and where rows read again would be appended twice.",
            ),
        )  # fmt: skip

    async def get(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            pipeline = await store.get(tx, call.workspace, call.path["pipeline"])
        path = _path(pipeline.id)
        return _told(await self.services.get("executor", path, workspace=call.workspace, timeout_seconds=STATE_SECONDS))

    async def put(self, call: Call) -> Answer:
        return await self._change(call, call.body_as(StateWish))

    async def delete(self, call: Call) -> Answer:
        await self._change(call, None)
        return Answer(status=204)

    async def _change(self, call: Call, wish: StateWish | None) -> Answer:
        """A run that was asked for has begun at the executor, which refuses, or will begin after the change."""
        async with self.database.transaction(call.workspace) as tx:
            pipeline = await store.get(tx, call.workspace, call.path["pipeline"])
            definition = await material.resolved(tx, pipeline)
        change = StateChange(
            pipeline=pipeline.name,
            wish=wish,
            appended=_appended(definition),
            all_appended=definition.replicate is not None and definition.replicate.to.write == "append",
            of_streams={} if definition.replicate is None else _of_streams(definition.replicate),
            if_match=call.if_match,
            author=author(call),
        )
        told = await self.services.post(
            "executor", _path(pipeline.id), change, workspace=call.workspace, timeout_seconds=STATE_SECONDS
        )
        return _told(told)


def _path(pipeline: UUID) -> str:
    return f"/internal/pipelines/{pipeline}/state"


def _told(told: dict[str, Any]) -> Answer:
    state = PipelineState.model_validate(told)
    return Answer(state, etag=state.version)


def _appended(definition: ResolvedPipeline) -> tuple[str, ...]:
    """By the ledger's names; a parameter without a default leaves one that only its run can judge."""
    values = {name: one.default for name, one in definition.parameters.items() if one.default is not None}
    names = destination_names(definition, values)
    return tuple(name for name, one in zip(names, definition.destinations, strict=True) if one.write == "append")


def _of_streams(replicate: ResolvedReplicate) -> dict[str, bool]:
    return {name: one.write == "append" for name, one in replicate.overrides.items() if one.write is not None}
