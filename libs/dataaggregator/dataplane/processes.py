"""The pool of run processes: warm, forked ahead, bound to one workspace each, watched, killable at any moment."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from dataaggregator.dataplane.job import SandboxSettings
from dataaggregator.dataplane.runprocess import FrameHandler, RunProcess, Templates, spawn

__all__ = ["FrameHandler", "PoolSettings", "ProcessPool", "RunProcess"]

JOBS_PER_PROCESS = 5_000
GROWTH_BYTES = 128 * 1024 * 1024
"""What a library leaks ends with its process: after so many jobs, or so much more memory than after its first one."""
WATCH_SECONDS = 0.25


class PoolSettings(BaseModel):
    model_config = ConfigDict(frozen=True)

    warm: int = 1
    """Run processes kept started and not yet bound to a workspace."""
    idle: int = 4
    """Run processes kept after a job for the next one of their own workspace; the longest unused one goes first."""
    idle_seconds: float = 60.0
    """A run process kept for its workspace is ended when nobody needed it for so long; the warm ones stay.
    A template too, when nothing that it forked is there any more."""
    memory_bytes: int = 1024 * 1024 * 1024
    """Declared memory of one run, its sandbox apart: above it the run process is killed and the run says so."""
    sandbox: SandboxSettings = SandboxSettings()
    folder: Path
    """Spill folders are made below it."""
    start_seconds: float = 60.0


class ProcessPool:
    """A resource: open() begins to warm, close() ends every process it started."""

    name = "run-processes"

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._warm: deque[asyncio.Task[RunProcess]] = deque()
        self._idle: deque[RunProcess] = deque()
        self._all: set[RunProcess] = set()
        self._watches: list[asyncio.Task[None]] = []
        self.templates = Templates(settings.folder)
        self._closed = False

    async def open(self) -> None:
        self._settings.folder.mkdir(parents=True, exist_ok=True)
        self._watches = [
            asyncio.create_task(self._watch_all(), name="run-process-watch"),
            asyncio.create_task(self._rest_templates(), name="templates-rest"),
        ]
        self._fill()

    async def ping(self) -> None:
        """A pool has no dependency of its own: a process that cannot start fails the take that needed it."""

    async def close(self) -> None:
        self._closed = True
        tasks: list[asyncio.Task[RunProcess] | asyncio.Task[None]] = [*self._warm, *self._watches]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for process in list(self._all):
            await self._end(process)
        await self.templates.close()

    @contextlib.asynccontextmanager
    async def take(self, workspace: UUID) -> AsyncIterator[RunProcess]:
        """A warm process that has never worked for another workspace; it is the caller's until the block ends."""
        process = self._idle_of(workspace) or await self._fresh()
        process.bind(workspace)
        try:
            yield process
        finally:
            await self._give_back(process)

    async def _give_back(self, process: RunProcess) -> None:
        if self._closed or not process.reusable or process.jobs >= JOBS_PER_PROCESS or process.grown > GROWTH_BYTES:
            await self._end(process)
            return
        process.idle_since = time.monotonic()
        self._idle.append(process)
        while len(self._idle) > self._settings.idle:
            await self._end(self._idle.popleft())

    def _idle_of(self, workspace: UUID) -> RunProcess | None:
        for process in reversed(self._idle):
            if process.workspace == workspace and process.reusable:
                self._idle.remove(process)
                return process
        return None

    async def _fresh(self) -> RunProcess:
        while self._warm:
            task = self._warm.popleft()
            self._fill()
            process = await task
            if process.reusable:
                return process
            await self._end(process)
        return await self._spawn()

    def _fill(self) -> None:
        while not self._closed and len(self._warm) < self._settings.warm:
            self._warm.append(asyncio.create_task(self._spawn(), name="run-process-spawn"))

    async def _spawn(self) -> RunProcess:
        settings = self._settings
        process = await spawn(self.templates, settings.folder, settings.sandbox, settings.memory_bytes)
        self._all.add(process)
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                await process.wait_ready()
        except BaseException:
            await self._end(process)
            raise
        return process

    async def _end(self, process: RunProcess) -> None:
        process.kill()
        await process.wait_ended()
        self._all.discard(process)
        with contextlib.suppress(ValueError):
            self._idle.remove(process)

    async def _watch_all(self) -> None:
        """Memory, and who is kept for nobody."""
        while True:
            for process in list(self._all):
                process.enforce_memory()
            limit = time.monotonic() - self._settings.idle_seconds
            while self._idle and self._idle[0].idle_since < limit:
                await self._end(self._idle.popleft())
            await asyncio.sleep(WATCH_SECONDS)

    async def _rest_templates(self) -> None:
        """Apart from the watch: a template that is stuck holds up no look at memory."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.templates.rest(self._settings.idle_seconds)
