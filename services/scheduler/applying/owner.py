"""Applying: the connectors service, asked to check, save and give out what is its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode
from uuid import UUID

from dataaggregator.contracts.apply import AskedConnector, AskedConnectors, Change, ExportedConnectors, ToldConnectors
from dataaggregator.definition import Author
from dataaggregator.http.client import ServiceClient

ASK_SECONDS = 30.0


@dataclass(frozen=True)
class ConnectorsOwner:
    services: ServiceClient

    async def apply(
        self, workspace: UUID, author: Author, connectors: Sequence[AskedConnector], *, dry_run: bool
    ) -> tuple[Change, ...]:
        """All or none; raises Invalid naming all that is wrong, Conflict where a version is another by now."""
        if not connectors:
            return ()
        asked = AskedConnectors(author=author, dry_run=dry_run, connectors=tuple(connectors))
        told = await self.services.post(
            "connectors", "/internal/connectors/apply", asked, workspace=workspace, timeout_seconds=ASK_SECONDS
        )
        return ToldConnectors.model_validate(told).changes

    async def export(self, workspace: UUID, names: Sequence[str] | None) -> ExportedConnectors:
        """The connectors of these names (None: all) with a variable in place of each secret; raises TooLarge."""
        asked = "" if names is None else f"?{urlencode([('name', name) for name in names])}"
        path = f"/internal/connectors/export{asked}"
        told = await self.services.get("connectors", path, workspace=workspace, timeout_seconds=ASK_SECONDS)
        return ExportedConnectors.model_validate(told)
