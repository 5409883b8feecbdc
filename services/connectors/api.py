"""Connectors, HTTP door: /api/connector-types and /api/connectors."""

from collections.abc import Sequence
from dataclasses import dataclass

from dataaggregator.connector.registry import connector_types
from dataaggregator.contracts.connector import ConnectorDefinition
from dataaggregator.db import Database
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.definition import Models, Titles, author, definition_routes, expect, patching, replacing
from dataaggregator.http.paging import Page, decode_cursor, encode_cursor, page_of
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.connectors import store
from services.connectors.commands import ConnectorCommands
from services.connectors.domain import Connector
from services.connectors.resource import (
    ConnectorQuery,
    ConnectorShown,
    ConnectorTypeShown,
    KeptConnectors,
    TypeQuery,
    shown,
    shown_type,
)

TAG = "Connectors"


@dataclass(frozen=True)
class ConnectorsApi:
    database: Database
    commands: ConnectorCommands

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "GET", "/api/connector-types", self.types, "List the types of connectors", TAG,
                Permission.DEFINITIONS_READ, query=TypeQuery, answers={200: Page[ConnectorTypeShown]},
            ),
            *definition_routes(
                self, "/api/connectors/{connector}", TAG,
                Titles(
                    "List connectors", "Save a connector", "Show a connector", "Replace a connector's configuration",
                    "Change parts of a connector", "Delete an unused connector",
                ),
                Models(ConnectorQuery, Page[ConnectorShown], ConnectorDefinition, ConnectorShown, ConnectorShown),
                changing=(409, 502),
            ),
            Route(
                "POST", "/internal/connectors/keep", self.keep, "Ask connectors to stay", "internal", None,
                body=KeptConnectors, answers={200: KeptConnectors}, internal=True,
            ),
        )  # fmt: skip

    async def types(self, call: Call) -> Answer:
        query = call.query_as(TypeQuery)
        after = "" if query.cursor is None else decode_cursor(query.cursor, str)[0]
        found = [shown_type(type_) for name, type_ in sorted(connector_types().items()) if name > after]
        return Answer(page_of(found[: query.limit + 1], query.limit, lambda type_: encode_cursor(type_.type)))

    async def list_page(self, call: Call) -> Answer:
        query = call.query_as(ConnectorQuery)
        async with self.database.transaction(call.workspace) as tx:
            found, cursor = await store.list_page(tx, call.workspace, query.type, query)
        return Answer(Page[ConnectorShown](items=[shown(connector) for connector in found], next_cursor=cursor))

    async def create(self, call: Call) -> Answer:
        connector = await self.commands.create(call.workspace, author(call), call.body_as(ConnectorDefinition))
        location = {"Location": f"/api/connectors/{connector.id}"}
        return Answer(shown(connector), status=201, headers=location, etag=connector.version)

    async def get(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            return _answer(await store.get(tx, call.workspace, call.path["connector"]))

    async def replace(self, call: Call) -> Answer:
        edit = replacing(call, ConnectorDefinition)
        return _answer(await self.commands.save(call.workspace, call.path["connector"], author(call), edit))

    async def patch(self, call: Call) -> Answer:
        edit = patching(call, ConnectorDefinition)
        return _answer(await self.commands.save(call.workspace, call.path["connector"], author(call), edit))

    async def delete(self, call: Call) -> Answer:
        await self.commands.delete(call.workspace, call.path["connector"], author(call), expect(call))
        return Answer(status=204)

    async def keep(self, call: Call) -> Answer:
        """Only for the scheduler: the route is internal, and the gateway never forwards to it."""
        kept = await self.commands.keep(call.workspace, call.body_as(KeptConnectors).connector_ids)
        return Answer(KeptConnectors(connector_ids=list(kept)))


def _answer(connector: Connector) -> Answer:
    return Answer(shown(connector), etag=connector.version)
