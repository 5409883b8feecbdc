"""Parked, HTTP door: administrators list, read and replay what was set aside in any service."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, Field

from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Page, PageQuery, Query
from dataaggregator.http.parked import ParkedItem, ReplayedBy, cursor_after, place_of
from dataaggregator.http.route import Route
from dataaggregator.permissions import DEFAULT_WORKSPACE, Permission
from services.gateway.heads import request_id

from .asking import Asked, Parked

ServiceName = Literal["auth", "connectors", "executor", "gateway", "scheduler"]
_SERVICE = Field(description="Only what this service set aside.")
_UNANSWERED = Field(description="Services that did not answer: what they set aside is missing here.")


class ParkedQuery(PageQuery):
    sort: None = None
    service: Annotated[ServiceName | None, _SERVICE] = None
    type: Annotated[
        str | None, Field(max_length=200, description="Only events of this type, as run.queued.v1 or run.*")
    ] = None


class ServiceQuery(Query):
    service: Annotated[ServiceName | None, _SERVICE] = None


class ParkedPage(Page[ParkedItem]):
    unanswered: Annotated[list[str], _UNANSWERED]


class ParkedIn(BaseModel):
    """Where an event was set aside, and why."""

    service: str
    tries: int
    code: str
    reason: str
    help: str
    parked_at: datetime


class ParkedView(BaseModel):
    """An event and every service that set it aside."""

    id: UUID
    workspace_id: UUID
    type: str
    source: str
    subject: str
    sequence: int
    event: Annotated[dict[str, Any], Field(description="The event in the JSON format of CloudEvents.")]
    parked: list[ParkedIn]
    unanswered: Annotated[list[str], _UNANSWERED]


class ReplayedView(BaseModel):
    """The event tries again in these services."""

    id: UUID
    services: list[str]
    unanswered: Annotated[list[str], Field(description="Services that did not answer: nothing is known of them.")]


class ParkedApi:
    """The routes of parked events; `address` is the caller's as the edge knows it."""

    def __init__(self, parked: Parked, address: Callable[[web.Request], str]) -> None:
        self._parked = parked
        self._address = address

    def routes(self) -> list[Route]:
        admin, one = Permission.PLATFORM_ADMIN, "/api/parked/{event:id}"
        return [
            Route(
                "GET",
                "/api/parked",
                self.list_parked,
                "List the events that were set aside",
                "parked",
                admin,
                query=ParkedQuery,
                answers={200: ParkedPage},
                description="Newest first, those of the workspace of the call. Those that belong to no workspace, "
                f"such as failed logins of unknown accounts, are shown in the workspace `{DEFAULT_WORKSPACE}`.",
            ),
            Route(
                "GET",
                one,
                self.show,
                "Read an event that was set aside",
                "parked",
                admin,
                query=ServiceQuery,
                answers={200: ParkedView},
            ),
            Route(
                "POST",
                f"{one}/replay",
                self.replay,
                "Let an event try again",
                "parked",
                admin,
                query=ServiceQuery,
                answers={200: ReplayedView},
                description="In every service that set it aside, or in the one named; with all its tries. Audited.",
            ),
        ]

    async def list_parked(self, call: Call) -> Answer:
        query = call.query_as(ParkedQuery)
        if query.cursor is not None:
            place_of(query.cursor)
        asked = Asked(_workspaces(call), query.service)
        found, unanswered = await self._parked.list(asked, kind=query.type, cursor=query.cursor, limit=query.limit + 1)
        items = list(found[: query.limit])
        more = cursor_after(items[-1]) if len(found) > query.limit else None
        return Answer(ParkedPage(items=items, next_cursor=more, unanswered=list(unanswered)))

    async def show(self, call: Call) -> Answer:
        asked = Asked(_workspaces(call), call.query_as(ServiceQuery).service)
        found = await self._parked.show(asked, call.id("event"))
        first = found.answers[0].model_dump()
        parked = [ParkedIn(**one.model_dump(include=set(ParkedIn.model_fields))) for one in found.answers]
        shown = {name: value for name, value in first.items() if name in ParkedView.model_fields}
        return Answer(ParkedView(**shown, parked=parked, unanswered=list(found.unanswered)))

    async def replay(self, call: Call) -> Answer:
        asked = Asked(_workspaces(call), call.query_as(ServiceQuery).service)
        by = ReplayedBy(
            user_id=call.identity.user_id,
            name=call.identity.email,
            address=self._address(call.request),
            request_id=request_id(call.request),
            key=call.identity.key,
        )
        found = await self._parked.replay(asked, call.id("event"), by)
        told = ReplayedView(id=call.id("event"), services=list(found.answers), unanswered=list(found.unanswered))
        return Answer(told)


def _workspaces(call: Call) -> Sequence[UUID]:
    """The caller's; what belongs to none is looked after where the installation's first administrator is."""
    return (call.workspace, PLATFORM_WORKSPACE) if call.of_the_platform else (call.workspace,)
