"""state_api: the executor's HTTP door for the scheduler, which knows the pipelines: their state, told and changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from dataaggregator.contracts.state import PipelineState, StateChange
from dataaggregator.db import Connection, Database
from dataaggregator.http import etag
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from services.executor import commands
from services.executor.state import State
from services.executor.store import cursors


@dataclass(frozen=True)
class StateApi:
    database: Database

    def routes(self) -> Sequence[Route]:
        path, answers = "/internal/pipelines/{pipeline:id}/state", {200: PipelineState}
        return (
            Route("GET", path, self.get, "Where reading goes on", "internal", None, answers=answers, internal=True),
            Route(
                "POST", path, self.change, "Let reading go on somewhere else", "internal", None,
                body=StateChange, answers=answers, problems=(409, 412), internal=True,
            ),
        )  # fmt: skip

    async def get(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            return await _told(tx, call.workspace, call.id("pipeline"))

    async def change(self, call: Call) -> Answer:
        change, pipeline_id = call.body_as(StateChange), call.id("pipeline")
        async with self.database.transaction(call.workspace) as tx:
            expect = partial(etag.check, change.if_match)
            await commands.change_state(tx, call.workspace, pipeline_id, change, expect)
            return await _told(tx, call.workspace, pipeline_id)


async def _told(tx: Connection, workspace: UUID, pipeline_id: UUID) -> Answer:
    state = State(
        await cursors.list_cursors(tx, workspace, pipeline_id), await cursors.list_by_hand(tx, workspace, pipeline_id)
    )
    return Answer(PipelineState(pipeline_id=pipeline_id, version=state.version, cursors=state.shown()))
