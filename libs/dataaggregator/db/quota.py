"""A quota of stored bytes: judged in the transaction that stores, when all of it is there and nothing else is waited
for."""

from dataclasses import dataclass
from uuid import UUID

from dataaggregator.db.connection import Connection
from dataaggregator.errors import Conflict

_LOCK = 0x71756F74  # "quot": one transaction of a workspace at a time between its sum and its end


@dataclass(frozen=True)
class Quota:
    """What one workspace may have stored of something; `most_bytes` 0 is no quota.

    `counted` is the statement of the sum, with the workspace as its only argument, and `what` its words.
    """

    most_bytes: int
    what: str
    counted: str

    async def stored(self, tx: Connection, workspace: UUID) -> int:
        """What the workspace has stored as this transaction sees it, bytes."""
        if not self.most_bytes:
            return 0
        found: int = await tx.fetchval(self.counted, workspace)
        return found

    async def check(self, tx: Connection, workspace: UUID, before: int = 0) -> None:
        """The last thing a transaction does that stores: raises Conflict where the workspace has more than its quota,
        unless it has no more than `before`.

        Whoever comes next waits until this transaction has ended, and then sees what it stored. Nobody who waits here
        holds up whom it waits for, since nothing is locked behind this.
        """
        if not self.most_bytes:
            return
        await tx.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK, f"{self.what} {workspace}")
        now = await self.stored(tx, workspace)
        if now > max(self.most_bytes, before):
            raise Conflict(
                "workspace-full",
                f"With this the {self.what} of the workspace would come to {now:,} bytes, and it may have "
                f"{self.most_bytes:,} (WORKSPACE_DEFINITIONS_BYTES); nothing was changed. Delete what is not needed "
                "any more, or let an operator raise the setting.",
            )
