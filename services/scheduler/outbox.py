"""Scheduler: what it says: events and audit lines, written in the caller's transaction."""

from collections.abc import Sequence
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


async def say(tx: Connection, said: Sequence[bus.Said]) -> None:
    """Several at once, in their order."""
    await bus.emit_all(tx, NAME, said, source=NAME)


def audited(workspace: UUID, author: Author, line: Audited, at: datetime) -> bus.Said:
    """An audit line to be said with other things."""
    return trail.audited(NAME, workspace, author, line, at)


async def audit(tx: Connection, workspace: UUID, author: Author, line: Audited, *, at: datetime | None = None) -> None:
    await trail.audit(tx, NAME, workspace, author, line, at=at)
