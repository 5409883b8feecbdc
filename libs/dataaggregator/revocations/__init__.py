"""Revoked identities: the port that every token check asks, and its adapters."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from dataaggregator.resource import Resource

# How often auth reads the table for what its other replicas wrote, and tells it.
TELL_SECONDS = 0.5

RevokedKind = Literal["user", "family", "token"]


@dataclass(frozen=True)
class Revocation:
    """All tokens of a user or family issued at or before ``revoked_at``, or the one token with this id.

    It matters until ``until``, when the last token it concerns has run out by itself.
    """

    kind: RevokedKind
    id: str
    revoked_at: datetime
    until: datetime


@dataclass(frozen=True)
class TokenFacts:
    """What a revocation is judged by."""

    user_id: str
    family: str | None
    token_id: str
    issued_at: datetime


class Revocations(Resource, Protocol):
    """A copy, in the memory of each process, of what auth's table says; adapters pass ``revocations_conformance.py``.

    Only auth, who owns the table, loads and tells; every service asks.
    """

    def revoked(self, token: TokenFacts) -> bool:
        """Is this token revoked? Answered from memory; raises Transient as long as nobody has told what is."""

    async def revoke(self, revocation: Revocation) -> None:
        """Obey what was just written down, and tell every other process. Never fails: ``tell`` makes up for it."""

    async def tell(self, revocations: Iterable[Revocation], *, whole: bool = False) -> None:
        """Take in what the table says, ``whole`` or its latest part, and pass on what other processes may not know.

        Auth does this at its start and then every ``TELL_SECONDS``: it is also the sign that the table is being read.
        """
