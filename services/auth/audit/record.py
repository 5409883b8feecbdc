"""What auth itself did, told to the audit the way every service tells it: as an entry through the outbox."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.bus import emit
from dataaggregator.contracts.identity import AuditEntry
from dataaggregator.db import Connection
from dataaggregator.definition import KeyUsed, by_key
from dataaggregator.ids import new_id
from services.auth import SCHEMA, SERVICE


@dataclass(frozen=True)
class Actor:
    """Who is acting, from where, by which request; `user_id` None while nobody is known."""

    user_id: UUID | None
    email: str | None
    address: str | None
    request_id: str | None
    key: KeyUsed | None = None


@dataclass(frozen=True)
class Deed:
    """What was done to which resource; `detail` holds no secret."""

    action: str
    resource_type: str
    resource_id: str
    detail: dict[str, Any]


async def record(tx: Connection, actor: Actor, deed: Deed, workspace: UUID, now: datetime) -> None:
    entry = AuditEntry(
        entry_id=new_id(),
        service=SERVICE,
        action=deed.action,
        resource_type=deed.resource_type,
        resource_id=deed.resource_id,
        actor_id=actor.user_id,
        actor=actor.email,
        address=actor.address,
        request_id=actor.request_id,
        detail=by_key(deed.detail, actor.key),
        at=now,
    )
    await emit(tx, SCHEMA, entry, subject=str(entry.entry_id), workspace=workspace, source=SERVICE)
