"""What every adapter of the revocations port must do; an adapter's test subclasses this."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from dataaggregator.revocations import Revocation, Revocations, TokenFacts

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


class SetClock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


def token(issued_at: datetime = NOW, **changed: str) -> TokenFacts:
    """A token of user u, family f."""
    return TokenFacts(**{"user_id": "u", "family": "f", "token_id": "t", **changed}, issued_at=issued_at)


class RevocationsConformance(ABC):
    """``make`` gives an adapter that knows of nothing."""

    @abstractmethod
    def make(self) -> Revocations: ...

    @pytest.fixture
    async def revocations(self) -> AsyncIterator[Revocations]:
        """An open one, as auth's is after its start on an empty table."""
        revocations = self.make()
        await revocations.open()
        await revocations.tell([], whole=True)
        yield revocations
        await revocations.close()

    async def test_a_revocation_concerns_what_was_issued_before_it(self, revocations: Revocations) -> None:
        assert not revocations.revoked(token())
        await revocations.revoke(Revocation("user", "u", NOW, LATER))
        assert revocations.revoked(token())
        assert not revocations.revoked(token(issued_at=NOW + timedelta(seconds=1)))
        assert not revocations.revoked(token(user_id="v"))

    async def test_an_older_revocation_takes_nothing_back(self, revocations: Revocations) -> None:
        await revocations.revoke(Revocation("user", "u", NOW, LATER))
        await revocations.revoke(Revocation("user", "u", NOW - timedelta(days=1), NOW))
        assert revocations.revoked(token())

    async def test_a_family_ends_alone(self, revocations: Revocations) -> None:
        await revocations.revoke(Revocation("family", "f", NOW, LATER))
        assert revocations.revoked(token())
        assert not revocations.revoked(token(family="g"))
        assert not revocations.revoked(TokenFacts("u", None, "t", NOW))

    async def test_one_token_ends_alone_whenever_it_was_issued(self, revocations: Revocations) -> None:
        await revocations.revoke(Revocation("token", "t", NOW, LATER))
        assert revocations.revoked(token(issued_at=LATER))
        assert not revocations.revoked(token(token_id="s"))

    async def test_what_the_table_says_is_obeyed_and_saying_less_takes_nothing_back(
        self, revocations: Revocations
    ) -> None:
        await revocations.tell([Revocation("user", "u", NOW, LATER), Revocation("user", "v", NOW, LATER)], whole=True)
        await revocations.tell([])
        await revocations.tell([], whole=True)
        assert revocations.revoked(token())
        assert revocations.revoked(token(user_id="v"))

    async def test_one_that_is_open_answers_ping_and_may_be_closed_twice(self, revocations: Revocations) -> None:
        await revocations.ping()
        await revocations.close()
        await revocations.close()
