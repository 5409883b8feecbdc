"""What waits in a service's schema and what was set aside there: asked by the gateway, for nobody else reads it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from dataaggregator.bus import parked
from dataaggregator.bus.audit import audit
from dataaggregator.bus.backlog import backlog
from dataaggregator.catalogue import help_section
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.db import Connection, Database
from dataaggregator.definition import Audited, Author, KeyUsed
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Query, decode_cursor, encode_cursor
from dataaggregator.http.route import Route

BACKLOG = "/internal/bus/backlog"
PARKED = "/internal/bus/parked"


class BacklogStatus(BaseModel):
    service: str
    pending: int = Field(description="Events committed and not yet published.")
    oldest_seconds: float = Field(description="Age of the oldest of them.")
    unknown: int = Field(default=0, description="Of these, events of types that only another version can publish.")
    retrying: int = Field(description="Events that wait for another try.")
    parked: int = Field(description="Events set aside for a person.")


class ParkedItem(BaseModel):
    """An event that a service could not apply, and why."""

    id: UUID = Field(description="The event's id. An event that several services set aside is listed once for each.")
    service: str = Field(description="Who could not apply it.")
    workspace_id: UUID = Field(description="Whose it is; all zeros for what belongs to no workspace.")
    type: str
    source: str = Field(description="The service that said it.")
    subject: str
    sequence: int
    tries: int
    code: str = Field(description="Of the last failure.")
    reason: str
    help: str
    parked_at: datetime


class ParkedEvent(ParkedItem):
    event: dict[str, Any] = Field(description="The event in the JSON format of CloudEvents.")


class ParkedItems(BaseModel):
    items: list[ParkedItem]


class ParkedQuery(Query):
    type: Annotated[str | None, Field(max_length=200)] = None
    cursor: Annotated[str | None, Field(max_length=1000)] = None
    limit: Annotated[int, Field(ge=1, le=501)] = 50


class ReplayedBy(BaseModel):
    """Who lets it try again, for the audit trail."""

    user_id: UUID | None
    name: str | None
    address: str | None
    request_id: str | None
    key: KeyUsed | None = None


def cursor_after(item: ParkedItem) -> str:
    """Goes on after this item, in whatever service."""
    return encode_cursor(item.parked_at, item.id, item.service)


def place_of(cursor: str) -> parked.Place:
    """The opposite of `cursor_after`; raises Invalid for what is none."""
    return parked.Place(*decode_cursor(cursor, datetime, UUID, str))


def routes(service: str, schema: str, database: Database) -> Sequence[Route]:
    """What every service with a schema serves to the gateway."""
    door = _Door(service, schema, database)
    return [
        _route("GET", BACKLOG, door.backlog, "How much waits here", answers={200: BacklogStatus}),
        _route("GET", PARKED, door.list_parked, "Set aside here", query=ParkedQuery, answers={200: ParkedItems}),
        _route("GET", f"{PARKED}/{{event:id}}", door.show, "One event set aside here", answers={200: ParkedEvent}),
        _route(
            "POST",
            f"{PARKED}/{{event:id}}/replay",
            door.replay,
            "Let it try again",
            body=ReplayedBy,
            answers={204: None},
        ),
    ]


def _route(method: str, path: str, handler: Any, summary: str, **more: Any) -> Route:
    return Route(method, path, handler, summary, "bus", None, internal=True, **more)


@dataclass(frozen=True)
class _Door:
    service: str
    schema: str
    database: Database

    async def backlog(self, _: Call) -> Answer:
        async with self.database.platform() as tx:
            found = await backlog(tx, self.schema)
        told = BacklogStatus(
            service=self.service,
            pending=found.pending,
            oldest_seconds=round(found.oldest_seconds, 3),
            unknown=found.unknown,
            retrying=found.retrying,
            parked=found.parked,
        )
        return Answer(told)

    async def list_parked(self, call: Call) -> Answer:
        query = call.query_as(ParkedQuery)
        after = None if query.cursor is None else place_of(query.cursor)
        async with self._transaction(call.workspace) as tx:
            found = await parked.list_parked(
                tx, self.schema, workspace=call.workspace, kind=query.type, after=after, limit=query.limit
            )
        return Answer(ParkedItems(items=[ParkedItem(**self._told(one)) for one in found]))

    async def show(self, call: Call) -> Answer:
        async with self._transaction(call.workspace) as tx:
            found = await parked.show(tx, self.schema, call.id("event"), workspace=call.workspace)
        return Answer(ParkedEvent(**self._told(found), event=found.event))

    async def replay(self, call: Call) -> Answer:
        by, event_id = call.body_as(ReplayedBy), call.id("event")
        author = Author(by.user_id, by.name, by.address, by.request_id, by.key)
        async with self._transaction(call.workspace) as tx:
            found = await parked.show(tx, self.schema, event_id, workspace=call.workspace)
            await parked.replay(tx, self.schema, event_id, workspace=call.workspace)
            line = Audited("event.replayed", "event", event_id, {"type": found.type, "code": found.code})
            await audit(tx, self.schema, call.workspace, author, line)
        return Answer(status=204)

    def _transaction(self, workspace: UUID) -> AbstractAsyncContextManager[Connection]:
        """What belongs to no workspace is seen by the platform's role only."""
        if workspace == PLATFORM_WORKSPACE:
            return self.database.platform()
        return self.database.transaction(workspace)

    def _told(self, one: parked.Parked) -> dict[str, Any]:
        return {
            "id": one.event_id,
            "service": self.service,
            "workspace_id": one.workspace_id,
            "type": one.type,
            "source": one.source,
            "subject": one.subject,
            "sequence": one.sequence,
            "tries": one.tries,
            "code": one.code,
            "reason": one.reason,
            "help": help_section(one.code),
            "parked_at": one.parked_at,
        }
