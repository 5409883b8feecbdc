"""Audit, bus door: entries of all services are appended to the chain of their workspace."""

from dataaggregator.bus import Handler
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.identity import AuditEntry
from dataaggregator.db import Connection
from services.auth import SERVICE

from . import store
from .domain import canonical, link


async def audit_entry(event: Event, tx: Connection) -> None:
    entry = event.read(AuditEntry)
    said = entry.model_dump(mode="json") | {"workspace_id": str(event.workspace_id)}
    last = await store.last_link(tx, event.workspace_id)
    await store.add_link(tx, link(last, canonical(said)), event.workspace_id, entry.at)


HANDLERS = [Handler(SERVICE, AuditEntry, audit_entry)]
