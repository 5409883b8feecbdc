"""Applying, HTTP door: /api/apply and /api/export."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import Field

from dataaggregator.contracts.apply import (
    MOST_DEFINITIONS,
    Change,
    ExportedConnectors,
    Kind,
    Variable,
)
from dataaggregator.contracts.base import Many, Sent, Told
from dataaggregator.db import Connection, Database
from dataaggregator.db.pages import PAGE_BYTES
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.definition import author
from dataaggregator.http.exporting import ExportQuery, too_large_to_export
from dataaggregator.http.route import MEBIBYTE, Route
from dataaggregator.permissions import Permission
from services.scheduler.applying import domain
from services.scheduler.applying.commands import ApplyCommands, Asked
from services.scheduler.applying.owner import ConnectorsOwner
from services.scheduler.pipelines import connectors, upstreams
from services.scheduler.pipelines import store as pipelines
from services.scheduler.pipelines.resource import may_query
from services.scheduler.transformations import store as transformations

TAG = "Pipelines as code"

D = TypeVar("D")
ListAtOnce = Callable[[Connection, UUID, Sequence[str] | None], Awaitable[tuple[Sequence[D], bool]]]


class ApplyWish(Sent):
    """Definitions of any kind, in any order, by name."""

    definitions: Annotated[Many[dict[str, Any]], Field(max_length=MOST_DEFINITIONS)] = Field(
        description="Connectors, transformations and pipelines as POST takes them; `kind` says which one it is, or the "
        "fields tell."
    )
    dry_run: bool = Field(False, description="Tell the difference and change nothing.")


class Applied(Told):
    """The difference, in the order of what was sent."""

    dry_run: bool
    changes: tuple[Change, ...]
    broke_off_at: datetime | None = Field(
        description="When an apply began that broke off after its connectors were saved, if none was completed since."
    )


class Exported(Told):
    """The definitions of the workspace, as `apply` takes it; variables stand in the place of secrets."""

    definitions: list[dict[str, Any]]
    variables: tuple[Variable, ...]


@dataclass(frozen=True)
class ApplyApi:
    database: Database
    commands: ApplyCommands
    owner: ConnectorsOwner

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "POST", "/api/apply", self.apply, "Save definitions together, or none of them", TAG,
                Permission.DEFINITIONS_WRITE, body=ApplyWish, answers={200: Applied}, problems=(409,),
                max_body_bytes=8 * MEBIBYTE, idempotent=True,
                description="Everything is checked against the whole first and refused whole, with all that is wrong, "
                "if any of it is. What is there already stays as it is; nothing is deleted.",
            ),
            Route(
                "GET", "/api/export", self.export, "All definitions, ready to be applied elsewhere", TAG,
                Permission.DEFINITIONS_READ, query=ExportQuery, answers={200: Exported}, problems=(413,),
                description=f"At most {PAGE_BYTES // MEBIBYTE} MiB of each kind at once: more is asked for in parts, "
                "by `kind` and `name`.",
            ),
        )  # fmt: skip

    async def apply(self, call: Call) -> Answer:
        wish = call.body_as(ApplyWish)
        asked = Asked(
            call.workspace,
            author(call),
            domain.read(wish.definitions),
            lambda wanted, current: may_query(call, wanted, current),
        )
        done = await (self.commands.diff(asked) if wish.dry_run else self.commands.apply(asked))
        return Answer(Applied(dry_run=wish.dry_run, changes=tuple(done.changes), broke_off_at=done.broke_off_at))

    async def export(self, call: Call) -> Answer:
        query = call.query_as(ExportQuery)
        exported = ExportedConnectors(definitions=(), variables=())
        if query.wants("connector"):
            exported = await self.owner.export(call.workspace, query.names)
        definitions: list[dict[str, Any]] = [
            {"kind": "connector"} | {name: value for name, value in one if value is not None}
            for one in exported.definitions
        ]
        async with self.database.transaction(call.workspace) as tx:
            steps = await self._at_once(tx, call.workspace, query, "transformation", transformations.list_at_once)
            found = await self._at_once(tx, call.workspace, query, "pipeline", pipelines.list_at_once)
            ids = [pipeline.id for pipeline in found]
            of_connectors = await connectors.names_now(tx, call.workspace, ids)
            of_pipelines = await upstreams.names_now(tx, call.workspace, ids)
        definitions += [{"kind": "transformation", **one.written} for one in steps]
        definitions += [
            {"kind": "pipeline", **domain.by_names(one.written, of_connectors[one.id], of_pipelines[one.id])}
            for one in found
        ]
        return Answer(Exported(definitions=definitions, variables=exported.variables))

    async def _at_once(
        self, tx: Connection, workspace: UUID, query: ExportQuery, kind: Kind, list_: ListAtOnce[D]
    ) -> Sequence[D]:
        """Those of a kind that are wanted; raises TooLarge."""
        if not query.wants(kind):
            return ()
        found, more = await list_(tx, workspace, query.names)
        if more:
            raise too_large_to_export(kind)
        return found
