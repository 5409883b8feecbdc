"""Runs, HTTP door: /api/runs and the runs of a pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass

from dataaggregator.contracts.run import Replay, RunStanding
from dataaggregator.db import Database
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.definition import author
from dataaggregator.http.paging import Page
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.scheduler.pipelines import store as pipelines
from services.scheduler.runs import store
from services.scheduler.runs.commands import RunCommands, Wish
from services.scheduler.runs.domain import Run, Status
from services.scheduler.runs.replay import ReplayCommands, ReplayWish
from services.scheduler.runs.resource import HistoryQuery, RejectedWish, RunQuery, RunShown, RunWish, shown
from services.scheduler.runs.waiting import Waiting

TAG = "Runs"


@dataclass(frozen=True)
class RunsApi:
    database: Database
    commands: RunCommands
    replays: ReplayCommands
    waiting: Waiting

    def routes(self) -> Sequence[Route]:
        read, operate = Permission.RUNS_READ, Permission.RUNS_OPERATE
        of_pipeline, one, accepted = "/api/pipelines/{pipeline}/runs", "/api/runs/{run:id}", {202: RunShown}
        return (
            Route(
                "POST", of_pipeline, self.start, "Run a pipeline", TAG, operate,
                body=RunWish, body_optional=True, answers=accepted, problems=(409,), idempotent=True,
            ),
            Route(
                "GET", of_pipeline, self.history, "List the runs of a pipeline", TAG, read,
                query=HistoryQuery, answers={200: Page[RunShown]},
            ),
            Route(
                "GET", "/api/runs", self.list_page, "List runs", TAG, read,
                query=RunQuery, answers={200: Page[RunShown]},
            ),
            Route("GET", one, self.get, "Show a run", TAG, read, answers={200: RunShown}),
            Route(
                "POST", f"{one}/cancel", self.cancel, "Cancel a run", TAG, operate,
                answers=accepted, problems=(409,), idempotent=True,
            ),
            Route(
                "POST", f"{one}/rejected/replay", self.replay, "Put rejected rows through once more", TAG, operate,
                body=RejectedWish, body_optional=True, answers=accepted, problems=(409,), idempotent=True,
                description="A new run whose source is what steps have rejected; it says 409 with the reason where "
                "rows would be doubled, overwritten or wrong.",
            ),
            Route(
                "POST", f"{one}/retry", self.retry, "Run again what has ended, as a new run", TAG, operate,
                answers=accepted, problems=(409,), idempotent=True,
            ),
            Route(
                "GET", RunStanding.path("{run:id}"), self.standing, "How a run stands", "internal", None,
                answers={200: RunStanding}, internal=True,
            ),
        )  # fmt: skip

    async def start(self, call: Call) -> Answer:
        wish = call.body_as(RunWish)
        asked = Wish(wish.parameters, wish.full_refresh, call.idempotency_id, wish.priority)
        return _accepted(await self.commands.start(call.workspace, call.path["pipeline"], author(call), asked))

    async def retry(self, call: Call) -> Answer:
        run = await self.commands.retry(call.workspace, call.id("run"), author(call), call.idempotency_id)
        return _accepted(run)

    async def replay(self, call: Call) -> Answer:
        wish = call.body_as(RejectedWish)
        replay = Replay(stage=wish.stage, rule=wish.rule, overwrite=wish.overwrite)
        asked = ReplayWish(replay, wish.version, call.idempotency_id)
        return _accepted(await self.replays.replay(call.workspace, call.id("run"), author(call), asked))

    async def cancel(self, call: Call) -> Answer:
        return _accepted(await self.commands.cancel(call.workspace, call.id("run"), author(call)))

    async def get(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            run = await store.get(tx, call.workspace, call.id("run"))
        return Answer(shown(run, (await self.waiting.of(call.workspace, [run])).get(run.id)))

    async def standing(self, call: Call) -> Answer:
        """What it waits for is left out: no executor is asked."""
        async with self.database.transaction(call.workspace) as tx:
            run = await store.get(tx, call.workspace, call.id("run"))
        return Answer(RunStanding(status=run.status.value))

    async def list_page(self, call: Call) -> Answer:
        query = call.query_as(RunQuery)
        statuses = tuple(Status(status) for status in query.status.split(",")) if query.status else ()
        filters = store.Filters(statuses, query.pipeline, query.trigger, query.parent_run_id, query.backfill_id)
        async with self.database.transaction(call.workspace) as tx:
            found, cursor = await store.list_page(tx, call.workspace, filters, query)
        return await self._page(call, found, cursor)

    async def history(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            pipeline = await pipelines.get(tx, call.workspace, call.path["pipeline"])
            found, cursor = await store.of_pipeline(tx, call.workspace, pipeline.id, call.query_as(HistoryQuery))
        return await self._page(call, found, cursor)

    async def _page(self, call: Call, found: Sequence[Run], cursor: str | None) -> Answer:
        waiting = await self.waiting.of(call.workspace, found)
        items = [shown(run, waiting.get(run.id)) for run in found]
        return Answer(Page[RunShown](items=items, next_cursor=cursor))


def _accepted(run: Run) -> Answer:
    return Answer(shown(run), status=202, headers={"Location": f"/api/runs/{run.id}"})
