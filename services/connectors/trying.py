"""Connectors, HTTP door: what is asked of the system behind a connector: test, discover, streams, preview, resolve."""

from collections.abc import Sequence
from dataclasses import dataclass

from dataaggregator.db import Database
from dataaggregator.errors import Denied
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Page
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.connectors import discoveries, store
from services.connectors.commands import ConnectorCommands
from services.connectors.discoverer import Discoverer
from services.connectors.probe import Probe
from services.connectors.resource import (
    ConnectorUse,
    DiscoveryShown,
    Listed,
    ListWish,
    PreviewShown,
    PreviewWish,
    Resolved,
    ResolveWish,
    StreamQuery,
    StreamShown,
    TestShown,
    UnsavedConnector,
    shown_discovery,
)

TAG = "Connectors"


@dataclass(frozen=True)
class TryingApi:
    database: Database
    commands: ConnectorCommands
    probe: Probe
    discoverer: Discoverer

    def routes(self) -> Sequence[Route]:
        read, write = Permission.DEFINITIONS_READ, Permission.DEFINITIONS_WRITE
        one = "/api/connectors/{connector}"
        return (
            Route(
                "POST", "/api/connectors/test", self.test_unsaved, "Test a connector that is not saved", TAG, write,
                body=UnsavedConnector, answers={200: TestShown}, problems=(502,),
            ),
            Route(
                "POST", f"{one}/test", self.test, "Test a connector step by step", TAG, Permission.RUNS_OPERATE,
                answers={200: TestShown}, problems=(502,),
            ),
            Route(
                "POST", f"{one}/discover", self.discover, "Look for the streams behind a connector", TAG,
                Permission.RUNS_OPERATE, answers={202: DiscoveryShown}, idempotent=True,
            ),
            Route(
                "GET", f"{one}/streams", self.streams, "List the streams behind a connector", TAG, read,
                query=StreamQuery, answers={200: Page[StreamShown]}, problems=(409, 502),
            ),
            Route(
                "POST", f"{one}/preview", self.preview, "Show some rows of a stream or a query", TAG,
                Permission.DATA_READ, body=PreviewWish, answers={200: PreviewShown}, problems=(409, 502),
            ),
            Route(
                "POST", "/internal/connectors/resolve", self.resolve, "Open connectors for an executor", "internal",
                None, body=ResolveWish, answers={200: Resolved}, problems=(404, 502), internal=True,
            ),
            Route(
                "POST", "/internal/connectors/list", self.list_files, "List the files that fit a stream", "internal",
                None, body=ListWish, answers={200: Listed}, problems=(404, 502), internal=True,
            ),
        )  # fmt: skip

    async def test_unsaved(self, call: Call) -> Answer:
        wish = call.body_as(UnsavedConnector)
        use = self.commands.open_unsaved(wish.type, wish.config)
        return Answer(TestShown.model_validate(await self.probe.test(call.workspace, use)))

    async def test(self, call: Call) -> Answer:
        opened = await self.commands.open(call.workspace, call.path["connector"])
        tested = TestShown.model_validate(await self.probe.test(call.workspace, opened.use))
        checks = [check.model_dump(mode="json") for check in tested.checks]
        await self.commands.record_test(opened.connector, tested.ok, checks)
        return Answer(tested)

    async def discover(self, call: Call) -> Answer:
        discovery = await self.discoverer.request(call.workspace, call.path["connector"])
        location = {"Location": f"/api/connectors/{discovery.connector_id}/streams"}
        return Answer(shown_discovery(discovery), status=202, headers=location)

    async def streams(self, call: Call) -> Answer:
        """What the last good discovery found; the first one is waited for, as one asked for by refresh is."""
        query, workspace = call.query_as(StreamQuery), call.workspace
        async with self.database.transaction(workspace) as tx:
            connector = await store.get(tx, workspace, call.path["connector"])
            known, _ = await discoveries.list_page(tx, connector, StreamQuery(limit=1))
            before = await discoveries.find(tx, connector)
        if query.cursor is None and (query.refresh or (not known and (before is None or before.status != "succeeded"))):
            discovery = await self.discoverer.request(workspace, str(connector.id))
            await self.discoverer.wait(connector, discovery.id)
        async with self.database.transaction(workspace) as tx:
            found, cursor = await discoveries.list_page(tx, connector, query)
        items = [StreamShown.model_validate(stream) for stream in found]
        return Answer(Page[StreamShown](items=items, next_cursor=cursor))

    async def preview(self, call: Call) -> Answer:
        wish = call.body_as(PreviewWish)
        if wish.query is not None and Permission.SOURCE_QUERY not in call.identity.permissions(call.workspace):
            detail = f"A query of your own needs the permission {Permission.SOURCE_QUERY}."
            raise Denied("permission-denied", detail)
        opened = await self.commands.open(call.workspace, call.path["connector"])
        wanted = wish.model_dump(mode="json", exclude_none=True)
        return Answer(PreviewShown.model_validate(await self.probe.preview(call.workspace, opened.use, wanted)))

    async def resolve(self, call: Call) -> Answer:
        """Only for services: the route is internal, and the gateway never forwards to it."""
        uses = {}
        for id_ in call.body_as(ResolveWish).connector_ids:
            opened = await self.commands.open(call.workspace, str(id_))
            uses[id_] = ConnectorUse.model_validate(opened.use)
        return Answer(Resolved(connectors=uses))

    async def list_files(self, call: Call) -> Answer:
        """Only for the scheduler, whose triggers wait for files."""
        wish = call.body_as(ListWish)
        opened = await self.commands.open(call.workspace, str(wish.connector_id))
        found = await self.probe.list_files(call.workspace, opened.use, wish.stream)
        return Answer(Listed.model_validate(found))
