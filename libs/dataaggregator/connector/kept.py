"""What connectors leave open at the end of a job for the next one of the same workspace in the same process."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

MOST = 8
IDLE_SECONDS = 15.0


@dataclass(eq=False)
class _Left:
    key: Hashable
    thing: Any
    close: Callable[[], Awaitable[None]]
    ends: asyncio.TimerHandle | None = field(default=None)


class Kept:
    """A few idle connections. A key must hold all that the other side judged when it let us in, secrets included:
    only who could open it himself is given it again. What nobody takes is closed after `idle_seconds`."""

    def __init__(self, most: int = MOST, idle_seconds: float = IDLE_SECONDS) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._left: deque[_Left] = deque()
        self._closing: set[asyncio.Task[None]] = set()

    def take(self, key: Hashable) -> Any | None:
        """The one left last under this key, now the caller's; None if there is none."""
        for left in reversed(self._left):
            if left.key == key:
                self._remove(left)
                return left.thing
        return None

    def leave(self, key: Hashable, thing: Any, close: Callable[[], Awaitable[None]]) -> None:
        """Leave it for the next one; of too many the one longest unused is closed."""
        left = _Left(key, thing, close)
        left.ends = asyncio.get_running_loop().call_later(self._idle_seconds, self._end, left)
        self._left.append(left)
        while len(self._left) > self._most:
            self._end(self._left[0])

    async def close(self) -> None:
        """Close all of them."""
        while self._left:
            self._end(self._left[0])
        await asyncio.gather(*self._closing)

    def _remove(self, left: _Left) -> None:
        self._left.remove(left)
        if left.ends is not None:
            left.ends.cancel()

    def _end(self, left: _Left) -> None:
        self._remove(left)
        task = asyncio.ensure_future(_closed(left))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _closed(left: _Left) -> None:
    await left.close()
