"""room: how many runs an executor works on at once, by slots and by the memory that each declares."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dataaggregator.contracts.steps import PythonStep
from dataaggregator.dataplane.compile.graph import needs_sandbox
from dataaggregator.dataplane.job import RunJob
from dataaggregator.errors import Permanent
from dataaggregator.telemetry import metrics


@dataclass(frozen=True)
class Memory:
    """What the runs of an executor may take together, and what each process of a run declares."""

    limit_bytes: int
    run_bytes: int
    sandbox_bytes: int

    def declared(self, job: RunJob) -> int:
        """The run process, the sandbox where a step or a kept source needs one, and that of the user's Python."""
        definition = job.definition
        steps = [step for one in definition.transformations for step in one.steps]
        kept = any(source.keep for source in definition.sources.values())
        if job.only_ask or not (kept or needs_sandbox(steps)):
            return self.run_bytes
        python = any(isinstance(step, PythonStep) for step in steps)
        return self.run_bytes + self.sandbox_bytes * (2 if python else 1)


class Room:
    """Who waits is let in in turn: one that needs much is not passed by for ever by those that need little."""

    def __init__(self, slots: int, memory: Memory) -> None:
        self.slots = slots
        self.memory = memory
        self._free_slots = slots
        self._free_bytes = memory.limit_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._owed_bytes = 0
        """What was missed by the last one that gave up waiting for memory."""
        self._show()

    @property
    def used(self) -> int:
        """How many of the slots are taken."""
        return self.slots - self._free_slots

    @property
    def takes_more(self) -> bool:
        """False while one waits for memory, or while what the last one missed is not free yet."""
        return self._free_bytes >= self._owed_bytes and not self._short_of_memory

    @property
    def _short_of_memory(self) -> bool:
        return bool(self._waiting and self._free_slots and self._waiting[0][0] > self._free_bytes)

    def lacks(self, job: RunJob) -> str | None:
        """A sentence where the run will have to wait for memory.

        Raises Permanent (`run-does-not-fit`) where it would wait for ever.
        """
        declared, limit = self.memory.declared(job), self.memory.limit_bytes
        if declared > limit:
            detail = f"The run declares {_mib(declared)} of memory; all runs of this executor may take {_mib(limit)}."
            raise Permanent("run-does-not-fit", detail)
        if declared <= self._free_bytes:
            return None
        return f"Waits for memory: the run declares {_mib(declared)}, {_mib(self._free_bytes)} are free."

    @asynccontextmanager
    async def taken(self, job: RunJob) -> AsyncIterator[None]:
        """A slot and the declared memory, until the block ends."""
        declared = self.memory.declared(job)
        await self._enter(declared)
        try:
            yield
        finally:
            self._leave(declared)

    async def _enter(self, declared: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((declared, turn))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(declared)
            else:
                self._give_up(declared, turn)
            raise

    def _give_up(self, declared: int, turn: asyncio.Future[None]) -> None:
        if self._short_of_memory:
            self._owed_bytes = max(self._owed_bytes, declared)
        self._waiting.remove((declared, turn))
        self._let_in()

    def _leave(self, declared: int) -> None:
        self._free_slots += 1
        self._free_bytes += declared
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._free_slots and self._waiting[0][0] <= self._free_bytes:
            declared, turn = self._waiting.popleft()
            self._free_slots -= 1
            self._free_bytes -= declared
            turn.set_result(None)
        if self._free_bytes >= self._owed_bytes:
            self._owed_bytes = 0
        self._show()

    def _show(self) -> None:
        wanted = sum(declared for declared, _ in self._waiting) if self._short_of_memory else self._owed_bytes
        limit = self.memory.limit_bytes
        for state, value in (("limit", limit), ("declared", limit - self._free_bytes), ("wanted", wanted)):
            metrics.EXECUTOR_MEMORY.of(state).set(value)


def _mib(size: int) -> str:
    return f"{size >> 20:,} MiB"
