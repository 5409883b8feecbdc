"""Revocations where every service is in this one process."""

from collections.abc import Iterable

from dataaggregator.clock import Clock
from dataaggregator.revocations import Revocation, TokenFacts
from dataaggregator.revocations.memory import Memory


class InProcessRevocations:
    """Auth loads its table into it at start and adds as it goes; nobody else has to be told."""

    name = "revocations"

    def __init__(self, clock: Clock) -> None:
        self._memory = Memory(clock)

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def ping(self) -> None:
        """It is always there."""

    def revoked(self, token: TokenFacts) -> bool:
        return self._memory.concerns(token)

    async def revoke(self, revocation: Revocation) -> None:
        self._memory.add([revocation])

    async def tell(self, revocations: Iterable[Revocation], *, whole: bool = False) -> None:  # noqa: ARG002 - port
        self._memory.add(revocations)
