"""Revoked identities: the port that every token check asks, and the copy kept in this process."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from dataaggregator.clock import Clock

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


class Revocations(Protocol):
    """The truth is auth's table; this is what every service asks at every call, so it answers from memory."""

    async def revoke(self, revocation: Revocation) -> None:
        """From now on the tokens concerned are refused; the same revocation twice changes nothing."""

    def revoked(self, token: TokenFacts) -> bool:
        """Is this token revoked?"""


class InProcessRevocations:
    """Revocations in this process; auth loads its table into it at start and adds as it goes."""

    _SWEEP_AT = 1_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[RevokedKind, str], Revocation] = {}

    async def revoke(self, revocation: Revocation) -> None:
        self.load([revocation])

    def load(self, revocations: Iterable[Revocation]) -> None:
        """Take in what is already written down elsewhere."""
        for revocation in revocations:
            key = (revocation.kind, revocation.id)
            known = self._known.get(key)
            if known is None or known.revoked_at <= revocation.revoked_at:
                self._known[key] = revocation
        self._sweep()

    def revoked(self, token: TokenFacts) -> bool:
        if not self._known:
            return False
        if ("token", token.token_id) in self._known:
            return True
        return self._before("user", token.user_id, token.issued_at) or (
            token.family is not None and self._before("family", token.family, token.issued_at)
        )

    def _before(self, kind: RevokedKind, id_: str, issued_at: datetime) -> bool:
        known = self._known.get((kind, id_))
        return known is not None and issued_at <= known.revoked_at

    def _sweep(self) -> None:
        if len(self._known) < self._SWEEP_AT:
            return
        now = self._clock.now()
        self._known = {key: known for key, known in self._known.items() if known.until > now}
