"""The bus: lines of the audit trail, said in the same transaction as what they are about."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.bus.emit import Said, emit_all
from dataaggregator.contracts.apply import FieldChange
from dataaggregator.contracts.identity import AuditEntry
from dataaggregator.db import Connection
from dataaggregator.definition import Audited, Author, Saved, by_key
from dataaggregator.ids import new_id


async def audit(
    tx: Connection, schema: str, workspace: UUID, author: Author, line: Audited, *, at: datetime | None = None
) -> None:
    """Who did it; what the platform does by itself is not audited, its events say it.

    `at` is the transaction's own time, where it is known already.
    """
    moment = at or await tx.fetchval("SELECT now()")
    await emit_all(tx, schema, [audited(schema, workspace, author, line, moment)], source=schema)


def came(saved: Saved[Any]) -> dict[str, Any]:
    """The detail of a definition that was made; a secret in it is masked where it is written."""
    return {"name": saved.name, "version": saved.version, "after": dict(saved.written)}


def went(saved: Saved[Any]) -> dict[str, Any]:
    """The detail of one that was deleted."""
    return {"name": saved.name, "version": saved.version, "before": dict(saved.written)}


def changed(after: Saved[Any], fields: Iterable[FieldChange]) -> dict[str, Any]:
    """The detail of one that was changed: what is not as it was, before and after."""
    told = [one.model_dump(mode="json", exclude_unset=True) for one in fields]
    return {"name": after.name, "version": after.version, "changes": told}


def audited(schema: str, workspace: UUID, author: Author, line: Audited, at: datetime) -> Said:
    """The same as something to be said with other events, at the transaction's own time."""
    entry = AuditEntry(
        entry_id=new_id(),
        service=schema,
        action=line.action,
        resource_type=line.resource_type,
        resource_id=str(line.resource_id),
        actor_id=author.user_id,
        actor=author.name,
        address=author.address,
        request_id=author.request_id,
        detail=by_key(line.detail, author.key),
        at=at,
    )
    return Said(entry, entry.entry_id, workspace)
