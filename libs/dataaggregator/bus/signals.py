"""The bus: waking a loop of this process once a transaction has committed."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from weakref import WeakSet

from dataaggregator.db import Connection, is_watched
from dataaggregator.ids import new_id

_HERE = new_id().hex
"""This process, as notifications name it."""


class Signal:
    """Something to wait for, at most so long. `fire` before `wait` is not lost."""

    def __init__(self, topic: str) -> None:
        self._event = asyncio.Event()
        _by_topic[topic].add(self)

    def fire(self) -> None:
        self._event.set()

    def clear(self) -> None:
        """Before looking for work: what fires from now on is about work not yet seen."""
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return


_by_topic: defaultdict[str, WeakSet[Signal]] = defaultdict(WeakSet)


@cache
def waker(topic: str) -> Callable[[], None]:
    """A function, always the same for a topic, that fires the signals of that topic."""

    def wake() -> None:
        for signal in tuple(_by_topic[topic]):
            signal.fire()

    return wake


def notice(tx: Connection) -> str:
    """What a NOTIFY of this transaction says: that this process wakes its own loops by itself, or nothing."""
    return _HERE if is_watched(tx) else ""


def heard_here(tx: Connection, topic: str) -> bool:
    """Whether a loop of this process that sees to the topic will be woken by this transaction.

    Nobody else has to be then. A NOTIFY would wake each connection of the database that listens to anything, and let
    one transaction commit at a time.
    """
    return is_watched(tx) and bool(_by_topic.get(topic))


def concerns_us(said: object) -> bool:
    """Whether a notification is one that no loop of this process has been woken for."""
    return said != _HERE


def outbox_topic(schema: str) -> str:
    return f"outbox {schema}"


def retries_topic(schema: str) -> str:
    return f"retries {schema}"
