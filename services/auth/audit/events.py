"""Audit, bus door: entries of all services are appended to the chain of their workspace."""

from collections.abc import Sequence

from dataaggregator.bus import Handler
from dataaggregator.bus.handler import alone
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.identity import AuditEntry
from dataaggregator.db import Connection
from services.auth import SERVICE

from . import store
from .domain import Entry, canonical, filed, link


async def audit_entries(events: Sequence[Event], tx: Connection) -> None:
    """Of one workspace, as all that one transaction sees."""
    workspace = events[0].workspace_id
    last = await store.last_link(tx, workspace)
    added: list[Entry] = []
    for event in events:
        entry = event.read(AuditEntry)
        said = entry.model_dump(mode="json") | {"workspace_id": str(event.workspace_id)}
        last = link(last, canonical(said))
        added.append(Entry(workspace, entry.at, last, filed(said)))
    await store.add(tx, added)


HANDLERS = [Handler(SERVICE, AuditEntry, alone(audit_entries), handle_all=audit_entries)]
