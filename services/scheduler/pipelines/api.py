"""Pipelines, HTTP door: /api/pipelines and /api/triggers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.triggers import CronTrigger
from dataaggregator.db import Database
from dataaggregator.definition import Edit, Saved
from dataaggregator.errors import FieldError, Invalid
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.definition import Models, Titles, author, definition_routes, expect, patching, replacing
from dataaggregator.http.paging import Page, PageQuery
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.scheduler.fires import check_cron, fires_of
from services.scheduler.pipelines import schedules, store
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.pipelines.resource import (
    ApprovalWish,
    Fire,
    Fires,
    PipelineQuery,
    PipelineShown,
    PipelineVersion,
    SlotQuery,
    SlotShown,
    TriggerAsked,
    may_query,
    shown,
)

TAG = "Pipelines"
YEARS = range(1970, 3000)
"""A preview begins in one of these: its last fire is then a moment that a date can hold."""


@dataclass(frozen=True)
class PipelinesApi:
    database: Database
    commands: PipelineCommands

    def routes(self) -> Sequence[Route]:
        read, write, operate = Permission.DEFINITIONS_READ, Permission.DEFINITIONS_WRITE, Permission.RUNS_OPERATE
        one, good = "/api/pipelines/{pipeline}", {200: PipelineShown}
        return (
            *definition_routes(
                self, one, TAG,
                Titles(
                    "List pipelines", "Save a pipeline", "Show a pipeline", "Replace a pipeline by a new version",
                    "Change parts of a pipeline", "Delete a pipeline; its runs and slots stay",
                ),
                Models(PipelineQuery, Page[PipelineShown], PipelineDefinition, PipelineShown, PipelineShown),
            ),
            Route("POST", f"{one}/pause", self.pause, "Let the triggers rest", TAG, operate, answers=good),
            Route("POST", f"{one}/resume", self.resume, "Let the triggers fire again", TAG, operate, answers=good),
            Route(
                "POST", f"{one}/schema/approve", self.approve_schema, "Approve changes of schema that wait", TAG, write,
                body=ApprovalWish, body_optional=True, answers=good, problems=(409,), etag=True, if_match=True,
                idempotent=True,
                description="After `schema_policy: pause` has blocked the pipeline: runs may make these changes.",
            ),
            Route(
                "GET", f"{one}/versions", self.versions, "List the versions of a pipeline", TAG, read,
                query=PageQuery, answers={200: Page[PipelineVersion]},
            ),
            Route(
                "GET", f"{one}/slots", self.slots, "List the slots of a pipeline: fired, or skipped and why", TAG,
                Permission.RUNS_READ, query=SlotQuery, answers={200: Page[SlotShown]},
                description="Also of one that was deleted, by its id.",
            ),
            Route(
                "POST", "/api/triggers/preview", self.preview, "Show when a trigger fires next", TAG, read,
                body=TriggerAsked, answers={200: Fires},
            ),
        )  # fmt: skip

    async def list_page(self, call: Call) -> Answer:
        query = call.query_as(PipelineQuery)
        async with self.database.transaction(call.workspace) as tx:
            found, cursor = await store.list_page(tx, call.workspace, query.status, query.late, query)
        return Answer(Page[PipelineShown](items=[shown(one) for one in found], next_cursor=cursor))

    async def create(self, call: Call) -> Answer:
        definition = call.body_as(PipelineDefinition)
        may_query(call, definition, None)
        pipeline = await self.commands.create(call.workspace, author(call), definition)
        answer = await self._show(call, str(pipeline.id))
        answer.status, answer.headers = 201, {"Location": f"/api/pipelines/{pipeline.id}"}
        return answer

    async def get(self, call: Call) -> Answer:
        return await self._show(call, call.path["pipeline"])

    async def replace(self, call: Call) -> Answer:
        return await self._save(call, replacing(call, PipelineDefinition))

    async def patch(self, call: Call) -> Answer:
        return await self._save(call, patching(call, PipelineDefinition))

    async def delete(self, call: Call) -> Answer:
        await self.commands.delete(call.workspace, call.path["pipeline"], author(call), expect(call))
        return Answer(status=204)

    async def pause(self, call: Call) -> Answer:
        paused = await self.commands.pause(call.workspace, call.path["pipeline"], author(call))
        return await self._show(call, str(paused.id))

    async def resume(self, call: Call) -> Answer:
        resumed = await self.commands.resume(call.workspace, call.path["pipeline"], author(call))
        return await self._show(call, str(resumed.id))

    async def approve_schema(self, call: Call) -> Answer:
        wanted = call.body_as(ApprovalWish).changes
        reference = call.path["pipeline"]
        approved = await self.commands.approve_schema(call.workspace, reference, author(call), wanted, expect(call))
        return await self._show(call, str(approved.id))

    async def versions(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            pipeline = await store.get(tx, call.workspace, call.path["pipeline"])
            found, cursor = await store.list_versions(tx, pipeline, call.query_as(PageQuery))
        items = [PipelineVersion.model_validate(asdict(version)) for version in found]
        return Answer(Page[PipelineVersion](items=items, next_cursor=cursor))

    async def slots(self, call: Call) -> Answer:
        query = call.query_as(SlotQuery)
        async with self.database.transaction(call.workspace) as tx:
            pipeline = await schedules.owner(tx, call.workspace, call.path["pipeline"])
            found, cursor = await schedules.list_slots(tx, call.workspace, pipeline, query.outcome, query)
        items = [SlotShown.model_validate(slot) for slot in found]
        return Answer(Page[SlotShown](items=items, next_cursor=cursor))

    async def preview(self, call: Call) -> Answer:
        asked = call.body_as(TriggerAsked)
        zone = ZoneInfo(asked.trigger.timezone if isinstance(asked.trigger, CronTrigger) else "UTC")
        if isinstance(asked.trigger, CronTrigger) and (wrong := check_cron(asked.trigger.cron)):
            raise Invalid("trigger-invalid", wrong, errors=[FieldError("trigger.cron", wrong, "cron")])
        after = await self._moment(asked.after)
        fires = islice(fires_of(asked.trigger, after).after(after), asked.count)
        shown_fires = [Fire(at=at, local=at.astimezone(zone).isoformat()) for at in fires]
        return Answer(Fires(timezone=zone.key, fires=shown_fires))

    async def _moment(self, given: datetime | None) -> datetime:
        if given is not None and given.tzinfo is None:
            message = "a time must carry its zone, such as 2026-01-31T12:00:00Z"
            raise Invalid("trigger-invalid", message, errors=[FieldError("after", message, "time")])
        if given is not None and given.year not in YEARS:
            message = f"should lie in the years {YEARS.start} to {YEARS.stop - 1}"
            raise Invalid("trigger-invalid", message, errors=[FieldError("after", message, "time")])
        if given is not None:
            return given.astimezone(UTC)
        async with self.database.platform() as tx:
            now: datetime = await tx.fetchval("SELECT now()")
            return now

    async def _save(self, call: Call, edit: Edit[PipelineDefinition]) -> Answer:
        def change(current: Saved[PipelineDefinition]) -> PipelineDefinition:
            wanted = edit.change(current)
            may_query(call, wanted, current.find_definition())
            return wanted

        reference = call.path["pipeline"]
        saved = await self.commands.save(call.workspace, reference, author(call), Edit(edit.expect, change))
        return await self._show(call, str(saved.id))

    async def _show(self, call: Call, reference: str) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            found = await store.show(tx, call.workspace, reference)
        return Answer(shown(found), etag=found.pipeline.version)
