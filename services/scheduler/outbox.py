"""Scheduler: what it says: events and audit lines, written in the caller's transaction."""

from datetime import datetime
from uuid import UUID

from dataaggregator import bus
from dataaggregator.bus import audit as trail
from dataaggregator.contracts.base import Message
from dataaggregator.db import Connection
from dataaggregator.definition import Audited, Author

NAME = "scheduler"


async def emit(tx: Connection, workspace: UUID, subject: UUID, message: Message) -> None:
    await bus.emit(tx, NAME, message, subject=subject, workspace=workspace, source=NAME)


async def audit(tx: Connection, workspace: UUID, author: Author, line: Audited, *, at: datetime | None = None) -> None:
    await trail.audit(tx, NAME, workspace, author, line, at=at)
