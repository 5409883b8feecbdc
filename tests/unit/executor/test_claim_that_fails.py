"""A claim that is not committed: what was begun for it ahead is let go, and the executor looks again."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from dataaggregator.bus.signals import Signal
from dataaggregator.errors import Transient
from services.executor.room import Memory, Room
from services.executor.worker import RECORD_PAUSE_SECONDS, Worker


async def test_the_call_for_connectors_is_dropped() -> None:
    dropped: list[str] = []

    async def look(owner: object, most: int, at_work: object, claimed: Any) -> None:
        claimed(["a run"])
        raise Transient("database-unavailable", "The commit did not come through.")

    def ask_for(runs: Sequence[str]) -> dict[Any, Any]:
        return {uuid4(): SimpleNamespace(drop=lambda: dropped.extend(runs))}

    doors: Any = SimpleNamespace(
        attempts=SimpleNamespace(look=look), workplace=SimpleNamespace(ask_for=ask_for), owner={}
    )
    assert await Worker(doors, Room(1, Memory(1, 1, 1)), Signal("nobody"))._look() == RECORD_PAUSE_SECONDS
    assert dropped == ["a run"]
