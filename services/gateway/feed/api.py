"""Feed, HTTP door: the events of a workspace and of one run, as they happen."""

from typing import Annotated

from pydantic import Field

from dataaggregator.contracts.run import RunStanding
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.paging import Query
from dataaggregator.http.route import Route
from dataaggregator.http.sse import stream
from dataaggregator.permissions import Permission

from .domain import TERMINAL_STATUSES, Wanted, check_types, position_of
from .streams import Streams

ASK_SECONDS = 10.0
_TOLD = (
    "Server-Sent Events whose data are CloudEvents as JSON and whose id is the position to resume after: "
    "Last-Event-ID goes on there without gap or double for seven days; later one event named reset says that "
    "something was missed. run.progressed comes live and without id."
)


class EventsQuery(Query):
    type: Annotated[
        list[str],
        Field(
            default_factory=list, max_length=50, description="Only these, as run.failed.v1 or run.*; may be repeated."
        ),
    ]
    subject: Annotated[str | None, Field(max_length=200, description="Only events about this resource.")] = None


class FeedApi:
    """The routes of the feed."""

    def __init__(self, streams: Streams, services: ServiceClient) -> None:
        self._streams = streams
        self._services = services

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/api/events",
                self.events,
                "Follow the events of the workspace",
                "events",
                Permission.RUNS_READ,
                query=EventsQuery,
                produces=("text/event-stream",),
                description=_TOLD,
            ),
            Route(
                "GET",
                "/api/runs/{run:id}/events",
                self.run_events,
                "Follow one run to its end",
                "events",
                Permission.RUNS_READ,
                produces=("text/event-stream",),
                description=f"{_TOLD} Begins with what is kept of the run; ends after the event that ends it.",
            ),
        ]

    async def events(self, call: Call) -> Answer:
        query = call.query_as(EventsQuery)
        wanted = Wanted(
            call.workspace,
            check_types(query.type),
            query.subject,
            about_people=Permission.IDENTITY_ADMIN in call.identity.permissions(call.workspace),
        )
        events = await self._streams.events(wanted, _last_position(call))
        return stream(call, events)

    async def run_events(self, call: Call) -> Answer:
        run = call.path["run"]
        ended = await self._ended(call, run)
        wanted = Wanted(call.workspace, ("run.*",), run)
        events = await self._streams.run(wanted, _last_position(call), ended=ended)
        return stream(call, events)

    async def _ended(self, call: Call, run: str) -> bool:
        """Has the run ended, as far as the scheduler knows? Raises what the scheduler says about a wrong one."""
        told = await self._services.get(
            "scheduler", RunStanding.path(run), workspace=call.workspace, timeout_seconds=ASK_SECONDS
        )
        return RunStanding.model_validate(told).status in TERMINAL_STATUSES


def _last_position(call: Call) -> int | None:
    return position_of(call.headers.get("Last-Event-ID"))
