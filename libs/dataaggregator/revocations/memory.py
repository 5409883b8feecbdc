"""What a process knows to be revoked, and how a token is judged by it."""

from collections.abc import Iterable
from datetime import datetime

from dataaggregator.clock import Clock
from dataaggregator.revocations import Revocation, RevokedKind, TokenFacts


class Memory:
    """The newest revocation of each user, family and token, until it no longer matters."""

    _SWEEP_AT = 1_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[RevokedKind, str], Revocation] = {}

    def add(self, revocations: Iterable[Revocation]) -> list[Revocation]:
        """Take these in; answers those that say something new."""
        new = []
        for revocation in revocations:
            key = (revocation.kind, revocation.id)
            known = self._known.get(key)
            if known is None or known.revoked_at < revocation.revoked_at:
                self._known[key] = revocation
                new.append(revocation)
        self._sweep()
        return new

    def concerns(self, token: TokenFacts) -> bool:
        """Is this token among what is revoked?"""
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
