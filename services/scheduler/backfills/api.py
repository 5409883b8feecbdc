"""Backfills, HTTP door: the backfills of a pipeline, and /api/backfills."""

from collections.abc import Sequence
from dataclasses import dataclass

from dataaggregator.db import Database
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.definition import author
from dataaggregator.http.paging import Page
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.scheduler.backfills import store
from services.scheduler.backfills.commands import BackfillCommands, BackfillWish
from services.scheduler.backfills.resource import (
    BackfillAsked,
    BackfillQuery,
    BackfillShown,
    BackfillSlot,
    BackfillSlotQuery,
    shown,
)
from services.scheduler.backfills.store import Shown
from services.scheduler.pipelines import store as pipelines

TAG = "Backfills"


@dataclass(frozen=True)
class BackfillsApi:
    database: Database
    commands: BackfillCommands

    def routes(self) -> Sequence[Route]:
        read, operate = Permission.RUNS_READ, Permission.RUNS_OPERATE
        of_pipeline, one = "/api/pipelines/{pipeline}/backfills", "/api/backfills/{backfill:id}"
        accepted = {202: BackfillShown}
        return (
            Route(
                "POST", of_pipeline, self.create, "Load a period of a pipeline again", TAG, operate,
                body=BackfillAsked, answers=accepted, problems=(409,), idempotent=True,
                description="The period is cut into slots, each a run of its own beside the pipeline's. The cursor "
                "that the pipeline goes on from is neither read nor moved.",
            ),
            Route(
                "GET", of_pipeline, self.list_page, "List the backfills of a pipeline", TAG, read,
                query=BackfillQuery, answers={200: Page[BackfillShown]},
            ),
            Route("GET", one, self.get, "Show a backfill and how far it is", TAG, read, answers={200: BackfillShown}),
            Route(
                "GET", f"{one}/slots", self.slots, "List the slots of a backfill with their runs", TAG, read,
                query=BackfillSlotQuery, answers={200: Page[BackfillSlot]},
            ),
            Route(
                "POST", f"{one}/cancel", self.cancel, "Cancel a backfill", TAG, operate,
                answers=accepted, problems=(409,), idempotent=True,
                description="No slot begins any more; runs at work are cancelled. What is loaded stays.",
            ),
            Route(
                "POST", f"{one}/retry", self.retry, "Try again the slots that were not loaded", TAG, operate,
                answers=accepted, problems=(409,), idempotent=True,
            ),
        )  # fmt: skip

    async def create(self, call: Call) -> Answer:
        asked = call.body_as(BackfillAsked)
        wish = BackfillWish(
            start=asked.from_,
            end=asked.to,
            interval=asked.interval,
            concurrency=asked.concurrency,
            parameters=asked.parameters,
            overwrite=asked.overwrite,
            backfill_id=call.idempotency_id,
        )
        return _accepted(await self.commands.create(call.workspace, call.path["pipeline"], author(call), wish))

    async def cancel(self, call: Call) -> Answer:
        return _accepted(await self.commands.cancel(call.workspace, call.id("backfill"), author(call)))

    async def retry(self, call: Call) -> Answer:
        return _accepted(await self.commands.retry(call.workspace, call.id("backfill"), author(call)))

    async def get(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            return Answer(shown(await store.show(tx, call.workspace, call.id("backfill"))))

    async def list_page(self, call: Call) -> Answer:
        query = call.query_as(BackfillQuery)
        async with self.database.transaction(call.workspace) as tx:
            pipeline = await pipelines.get(tx, call.workspace, call.path["pipeline"])
            found, cursor = await store.list_page(tx, call.workspace, pipeline.id, query.status, query)
        return Answer(Page[BackfillShown](items=[shown(one) for one in found], next_cursor=cursor))

    async def slots(self, call: Call) -> Answer:
        query = call.query_as(BackfillSlotQuery)
        async with self.database.transaction(call.workspace) as tx:
            found, cursor = await store.list_slots(tx, call.workspace, call.id("backfill"), query.status, query)
        items = [BackfillSlot.model_validate(slot) for slot in found]
        return Answer(Page[BackfillSlot](items=items, next_cursor=cursor))


def _accepted(found: Shown) -> Answer:
    return Answer(shown(found), status=202, headers={"Location": f"/api/backfills/{found.backfill.id}"})
