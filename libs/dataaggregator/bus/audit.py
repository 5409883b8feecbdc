"""The bus: lines of the audit trail, said in the same transaction as what they are about."""

from datetime import datetime
from uuid import UUID

from dataaggregator.bus.emit import emit
from dataaggregator.contracts.identity import AuditEntry
from dataaggregator.db import Connection
from dataaggregator.definition import Audited, Author
from dataaggregator.ids import new_id


async def audit(
    tx: Connection, schema: str, workspace: UUID, author: Author, line: Audited, *, at: datetime | None = None
) -> None:
    """Who did it; what the platform does by itself is not audited, its events say it.

    `at` is the transaction's own time, where it is known already.
    """
    entry_id = new_id()
    entry = AuditEntry(
        entry_id=entry_id,
        service=schema,
        action=line.action,
        resource_type=line.resource_type,
        resource_id=str(line.resource_id),
        actor_id=author.user_id,
        actor=author.name,
        address=author.address,
        request_id=author.request_id,
        detail=dict(line.detail),
        at=at or await tx.fetchval("SELECT now()"),
    )
    await emit(tx, schema, entry, subject=entry_id, workspace=workspace, source=schema)
