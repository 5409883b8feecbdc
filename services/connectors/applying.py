"""Connectors, HTTP door: what the scheduler asks when definitions of all kinds are applied or exported together."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from dataaggregator.contracts.apply import AskedConnectors, ExportedConnectors, ToldConnectors, Variable
from dataaggregator.contracts.connector import ConnectorDefinition
from dataaggregator.db import Database
from dataaggregator.db.pages import PAGE_BYTES
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.exporting import ExportQuery, too_large_to_export
from dataaggregator.http.paging import PageQuery
from dataaggregator.http.route import MEBIBYTE, Route
from services.connectors import store
from services.connectors.commands import ConnectorCommands
from services.connectors.domain import Connector, with_variables


@dataclass(frozen=True)
class ApplyingApi:
    database: Database
    commands: ConnectorCommands

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "POST", "/internal/connectors/apply", self.apply, "Save connectors together, or none", "internal", None,
                body=AskedConnectors, answers={200: ToldConnectors}, problems=(409,), max_body_bytes=16 * MEBIBYTE,
                internal=True,
            ),
            Route(
                "GET", "/internal/connectors/export", self.export, "All connectors, without secrets", "internal", None,
                query=ExportQuery, answers={200: ExportedConnectors}, problems=(413,), internal=True,
            ),
        )  # fmt: skip

    async def apply(self, call: Call) -> Answer:
        asked = call.body_as(AskedConnectors)
        changes = await self.commands.apply(call.workspace, asked.author, asked.connectors, dry_run=asked.dry_run)
        return Answer(ToldConnectors(changes=tuple(changes)))

    async def export(self, call: Call) -> Answer:
        wanted = call.query_as(ExportQuery).names
        exporting = _Exporting(None if wanted is None else frozenset(wanted))
        cursor: str | None = None
        while True:
            async with self.database.transaction(call.workspace) as tx:
                query = PageQuery(limit=500, cursor=cursor)
                found, cursor = await store.list_page(tx, call.workspace, None, query)
            exporting.add(found)
            if cursor is None:
                return Answer(exporting.told())


@dataclass
class _Exporting:
    """Goes through all connectors, so that a variable has one name in every part of an export."""

    names: frozenset[str] | None
    definitions: list[ConnectorDefinition] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    size_bytes: int = 0

    def add(self, found: Sequence[Connector]) -> None:
        """Raises TooLarge beyond PAGE_BYTES."""
        for connector in found:
            config, named = with_variables(connector.name, connector.definition.config, self.taken)
            if self.names is not None and connector.name not in self.names:
                continue
            self.size_bytes += len(orjson.dumps(config))
            if self.size_bytes > PAGE_BYTES:
                raise too_large_to_export("connector")
            self.definitions.append(connector.definition.model_copy(update={"config": config}))
            self.variables += [Variable(name=name, connector=connector.name, field=at) for name, at in named.items()]

    def told(self) -> ExportedConnectors:
        return ExportedConnectors(definitions=tuple(self.definitions), variables=tuple(self.variables))
