"""Connectors, HTTP door: what the scheduler asks when definitions of all kinds are applied or exported together."""

from collections.abc import Sequence
from dataclasses import dataclass

from dataaggregator.contracts.apply import AskedConnectors, ExportedConnectors, ToldConnectors, Variable
from dataaggregator.contracts.connector import ConnectorDefinition
from dataaggregator.db import Database
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import MEBIBYTE, Route
from services.connectors import store
from services.connectors.commands import ConnectorCommands
from services.connectors.domain import with_variables


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
                answers={200: ExportedConnectors}, internal=True,
            ),
        )  # fmt: skip

    async def apply(self, call: Call) -> Answer:
        asked = call.body_as(AskedConnectors)
        changes = await self.commands.apply(call.workspace, asked.author, asked.connectors, dry_run=asked.dry_run)
        return Answer(ToldConnectors(changes=tuple(changes)))

    async def export(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            found = await store.list_all(tx, call.workspace)
        definitions: list[ConnectorDefinition] = []
        variables: list[Variable] = []
        taken: set[str] = set()
        for connector in found:
            config, named = with_variables(connector.name, connector.definition.config, taken)
            definitions.append(connector.definition.model_copy(update={"config": config}))
            variables += [Variable(name=name, connector=connector.name, field=at) for name, at in named.items()]
        return Answer(ExportedConnectors(definitions=tuple(definitions), variables=tuple(variables)))
