"""run_log: the lines of one attempt on their way to the store: bounded in size, rate and number, written in batches."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import orjson

from services.executor.store.logs import NewLine

# Not the end of an escaped backslash: those stand in twos.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


class Shelf(Protocol):
    """Where lines go."""

    async def store(self, lines: Sequence[NewLine], committing: Callable[[str], None]) -> None:
        """All of them or none; `committing` is told which transaction is about to commit them."""

    async def has_committed(self, transaction: str) -> bool:
        """Of one whose COMMIT was not answered; Transient while that is not known."""


@dataclass(frozen=True)
class LogLimits:
    lines: int = 5_000
    """Of one run, over all its attempts; errors may go over it by a tenth, so that the end is always told."""
    message_chars: int = 4_000
    fields_bytes: int = 8_000
    lines_per_second: float = 200.0
    burst_lines: int = 1_000


class RunLog:
    """Takes lines without waiting; `flush` hands them to the store, each once. What the limits drop is counted and
    said."""

    def __init__(self, attempt: int, shelf: Shelf, limits: LogLimits | None = None) -> None:
        self._limits = limits or LogLimits()
        self._attempt = attempt
        self._taken = 0
        self._shelf = shelf
        self._pending: list[NewLine] = []
        self._doubtful: tuple[str, int] | None = None
        """A transaction that may have stored so many of the first lines that wait."""
        self._dropped = 0
        self._dropped_at: datetime | None = None
        self._tokens = float(self._limits.burst_lines)
        self._filled_at = time.monotonic()
        self._turn = asyncio.Lock()

    def add(self, at: datetime, level: str, message: str, fields: dict[str, Any]) -> None:
        if not self._may_take(level):
            self._dropped += 1
            self._dropped_at = at
            return
        self._taken += 1
        self._pending.append(self._bounded(NewLine(self._attempt, at, level, message, fields)))

    def count_stored(self, lines: int) -> None:
        """Lines of earlier attempts count too."""
        self._taken += lines

    def drop(self) -> None:
        """Forget the lines that wait."""
        self._dropped += len(self._pending)
        self._pending.clear()
        self._doubtful = None

    async def flush(self) -> None:
        """Hand the lines over; what could not be stored stays for the next time."""
        async with self._turn:
            await self._settle()
            self._note_dropped()
            if lines := list(self._pending):
                await self._shelf.store(lines, lambda transaction: self._doubt(transaction, len(lines)))
                self._doubtful = None
                del self._pending[: len(lines)]

    def _doubt(self, transaction: str, lines: int) -> None:
        self._doubtful = transaction, lines

    async def _settle(self) -> None:
        """A COMMIT that was not answered may have been obeyed: lines are neither lost by it nor stored twice."""
        if self._doubtful is not None:
            transaction, lines = self._doubtful
            if await self._shelf.has_committed(transaction):
                del self._pending[:lines]
            self._doubtful = None

    async def take(self) -> Sequence[NewLine]:
        """The lines that wait, for somebody else to store; not while a flush is under way. They are the last ones, so
        that what was dropped is told even where nothing waits."""
        await self._settle()
        self._note_dropped(at_the_end=True)
        lines, self._pending = self._pending, []
        return lines

    def _note_dropped(self, *, at_the_end: bool = False) -> None:
        last = self._pending[-1].at if self._pending else self._dropped_at if at_the_end else None
        if self._dropped and last is not None:
            note = f"{self._dropped} lines were dropped: more than the log of a run takes"
            self._pending.append(NewLine(self._attempt, last, "warning", note, {"dropped": self._dropped}))
            self._dropped = 0

    def _may_take(self, level: str) -> bool:
        now = time.monotonic()
        refill = (now - self._filled_at) * self._limits.lines_per_second
        self._tokens = min(self._tokens + refill, float(self._limits.burst_lines))
        self._filled_at = now
        if level == "error":
            return self._taken < self._limits.lines * 11 // 10
        if self._tokens < 1.0 or self._taken >= self._limits.lines:
            return False
        self._tokens -= 1.0
        return True

    def _bounded(self, line: NewLine) -> NewLine:
        if len(line.message) > self._limits.message_chars:
            line = replace(line, message=line.message[: self._limits.message_chars] + " …")
        # PostgreSQL's text and jsonb hold any character but NUL.
        fields = _NUL.sub(rb"\1\\\\0", orjson.dumps(line.fields, default=str))
        if len(fields) > self._limits.fields_bytes:
            fields = b'{"dropped": "the fields were larger than a line may be"}'
        return replace(line, message=line.message.replace("\x00", "\\0"), fields=orjson.loads(fields))
