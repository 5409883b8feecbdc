"""The warm sandbox of a run process: locked down, started ahead where jobs need it, and used for one load only."""

import asyncio
import shutil
from pathlib import Path

from dataaggregator.dataplane.job import SandboxSettings
from dataaggregator.dataplane.sandbox.host import Sandbox
from dataaggregator.dataplane.sandbox.messages import SandboxLimits
from dataaggregator.dataplane.sandbox.spawning import SandboxForks


class WarmSandbox:
    """`warm` begins to start one, `take` waits for it; one that cannot start fails only the job that needs it."""

    def __init__(self, settings: SandboxSettings, folder: Path, forks: SandboxForks) -> None:
        self._settings = settings
        self._folder = folder
        self._forks = forks
        self._made = 0
        self._coming: asyncio.Task[tuple[Sandbox, Path]] | None = None
        self._taken: list[tuple[Sandbox, Path]] = []

    def warm(self) -> None:
        if self._coming is None:
            self._coming = asyncio.create_task(self._start(), name="sandbox-start")

    async def ready(self) -> None:
        """Until the next one is warm, or its start has failed. Jobs that never needed one get none: each holds as
        much memory as a service."""
        if self._made:
            self.warm()
        if self._coming is not None:
            await asyncio.wait([self._coming])

    async def take(self) -> Sandbox:
        self.warm()
        coming, self._coming = self._coming, None
        assert coming is not None  # noqa: S101 (warm() has just made it)
        self._taken.append(await coming)
        return self._taken[-1][0]

    async def close_taken(self) -> None:
        """Ends every sandbox that was given out, with its spill folder."""
        while self._taken:
            sandbox, spill = self._taken.pop()
            await sandbox.close()
            await asyncio.to_thread(shutil.rmtree, spill, ignore_errors=True)

    async def _start(self) -> tuple[Sandbox, Path]:
        self._made += 1
        spill = self._folder / f"sandbox-{self._made}"
        limits = SandboxLimits(
            spill=spill,
            memory_bytes=self._settings.memory_bytes,
            cpu_seconds=self._settings.cpu_seconds,
            spill_bytes=self._settings.spill_bytes,
            python_seconds=self._settings.python_seconds,
            level=self._settings.level,
        )
        sandbox = await Sandbox.start(limits, self._forks)
        return sandbox, spill
