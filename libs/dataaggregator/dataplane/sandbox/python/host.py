"""The trusted side's handle on the process of the user's Python: started, its wire handed on, its death explained."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Self

from dataaggregator.dataplane.forking.host import Forked, Forks, last_words
from dataaggregator.dataplane.sandbox import wire
from dataaggregator.dataplane.sandbox.answers import BROKE_DOWN, cause_of_death
from dataaggregator.dataplane.sandbox.messages import SandboxLimits
from dataaggregator.dataplane.sandbox.spawning import limits_frame
from dataaggregator.errors import Permanent, PlatformError

END_SECONDS = 10.0


class PythonProcess:
    """One process for all python steps of one load."""

    def __init__(self, process: Forked, limits: SandboxLimits) -> None:
        self._process = process
        self._limits = limits
        self._stderr = asyncio.create_task(last_words(process.stderr))

    @classmethod
    async def start(cls, limits: SandboxLimits, forks: Forks) -> tuple[Self, socket.socket]:
        """The process with its limits on the wire, and the end of the wire that the sandbox is to have."""
        end, theirs = wire.pair()
        with theirs:
            try:
                process = await forks.fork(Path("/"), theirs.fileno())
            except BaseException:
                end.close()
                raise
        wire.send(end, limits_frame(limits, spills=False))
        return cls(process, limits), end

    @property
    def pid(self) -> int:
        """The process, for whoever watches over it."""
        return self._process.pid

    async def death(self, stage: str) -> PlatformError:
        """Why it closed its wire. One that lives on without it is ended."""
        try:
            async with asyncio.timeout(END_SECONDS):
                status = await self._process.wait()
        except TimeoutError:
            self.kill()
            status = await self._process.wait()
        said = await self._stderr
        if -status in BROKE_DOWN and not said.strip():
            how = f"{stage}: the Python process broke down ({signal.Signals(-status).name})"
            detail = f"{how}, as it does when it calls itself without end or gets no more memory"
            return Permanent("sandbox-memory", detail)
        cause = cause_of_death(status, said, self._limits)
        return Permanent(cause.code, f"{stage}: {cause.detail}")

    async def close(self) -> None:
        """End it and wait until it is gone."""
        self.kill()
        await self._process.wait()
        await self._stderr

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
