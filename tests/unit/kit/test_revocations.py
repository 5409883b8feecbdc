"""Revocations kept in this process keep the port's promises and forget what no longer matters."""

from datetime import timedelta

from dataaggregator.revocations import Revocation, Revocations
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.revocations.memory import Memory

from .revocations_conformance import NOW, RevocationsConformance, SetClock


class TestInProcessRevocations(RevocationsConformance):
    def make(self) -> Revocations:
        return InProcessRevocations(SetClock())


def test_revocations_that_no_longer_matter_are_forgotten() -> None:
    clock = SetClock()
    memory = Memory(clock)
    memory.add(Revocation("token", str(n), NOW, NOW + timedelta(minutes=30)) for n in range(2000))
    clock.at = NOW + timedelta(hours=1)
    memory.add([Revocation("token", "new", clock.at, clock.at + timedelta(minutes=30))])
    assert len(memory._known) == 1
