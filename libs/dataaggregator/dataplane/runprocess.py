"""One run process seen from the executor: started, given one job at a time, its frames handed on, its end explained."""

import asyncio
import contextlib
import logging
import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from dataaggregator.clock import SystemClock
from dataaggregator.dataplane.allocators import FRUGAL
from dataaggregator.dataplane.forking.host import Forked, Template
from dataaggregator.dataplane.job import (
    AboutToCommit,
    Answered,
    Cancel,
    CursorCommitted,
    Finished,
    LogLine,
    MayCommit,
    Prepare,
    ProbeJob,
    Progress,
    Ready,
    RunJob,
    RunOutcome,
    SandboxSettings,
    SchemaChange,
    encode,
    read_frame,
)
from dataaggregator.dataplane.redaction import Redaction
from dataaggregator.dataplane.sandbox.spawning import SandboxTemplates
from dataaggregator.dataplane.wire import Wire, WireClosedError
from dataaggregator.errors import Permanent, PlatformError, Transient

FrameHandler = Callable[[Progress | LogLine | SchemaChange | CursorCommitted], Awaitable[None]]

BeforeCommit = Callable[[], Awaitable[None]]

_log = logging.getLogger(__name__)
STDERR_BYTES = 64 * 1024
# What a run process may know of our environment: connection strings and keys of the service are not in it.
ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DATAAGGREGATOR_FAILPOINT"),
)
_PAGE_BYTES = resource.getpagesize()


class RunProcess:
    """Owned by one taker at a time. Every way it can end is told as a PlatformError."""

    def __init__(self, process: Forked, wire: Wire, spill: Path, memory_bytes: int) -> None:
        self._process = process
        self._wire = wire
        self._spill = spill
        self._memory_bytes = memory_bytes
        self._clock = SystemClock()
        self._stderr = bytearray()
        self._drain = asyncio.create_task(self._read_stderr(), name=f"run-process-stderr-{process.pid}")
        self._ready = False
        self._busy = False
        self._killed = False
        self._over_memory_bytes: int | None = None
        self._first_bytes: int | None = None
        self.workspace: UUID | None = None
        self.jobs = 0
        self.idle_since = 0.0
        """By the monotonic clock, since when its pool keeps it for the next job."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def reusable(self) -> bool:
        return not self._busy and not self._killed and self._process.returncode is None

    def bind(self, workspace: UUID) -> None:
        if self.workspace not in {None, workspace}:
            raise RuntimeError("a run process is never given to a second workspace")
        self.workspace = workspace

    async def prepare(self, sandbox: SandboxSettings) -> None:
        """Its first order. One that is already dead tells how in `wait_ready`."""
        with contextlib.suppress(WireClosedError):
            await self._wire.send(encode(Prepare(sandbox=sandbox, spill_folder=str(self._spill))))

    async def wait_ready(self) -> None:
        """Returns when the process is warm; asked before every job, as it warms a new sandbox after each."""
        if self._ready:
            return
        try:
            while isinstance(frame := read_frame(await self._wire.receive()), LogLine):
                _log.warning("said between two jobs: %s", frame.message)
        except WireClosedError:
            lost = await self._lost()
            _log.error("a run process ended before its first job: %s", self._stderr.decode("utf-8", "replace"))
            raise lost from None
        if not isinstance(frame, Ready):
            raise Transient("run-process-lost", "The run process did not start as it should.")
        self._ready = True

    async def run(self, job: RunJob, on_frame: FrameHandler, before_commit: BeforeCommit | None = None) -> RunOutcome:
        """Raises Transient or Permanent when the process itself was lost; all else is in the outcome.

        `before_commit` is awaited while a job that asks waits with its commit.
        """
        self._check(job.workspace_id)
        redaction = Redaction.of(job.connectors.values(), job.mask_key)
        finished = await self._work(job, on_frame, redaction, before_commit)
        if not isinstance(finished, Finished):
            raise Transient("run-process-lost", "The run process answered something else than an outcome.")
        return finished.outcome

    async def probe(self, job: ProbeJob, on_frame: FrameHandler | None = None) -> Answered:
        self._check(job.workspace_id)
        answered = await self._work(job, on_frame or _ignore, Redaction.of(job.uses, job.mask_key))
        if not isinstance(answered, Answered):
            raise Transient("run-process-lost", "The run process answered something else than a probe's result.")
        return answered

    async def cancel(self) -> None:
        """Asks: the run rolls back at its next batch. A process already gone needs no asking."""
        with contextlib.suppress(WireClosedError):
            await self._wire.send(encode(Cancel()))

    def kill(self) -> None:
        """Ends the process and everything it started, at once."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def wait_ended(self) -> None:
        await self._process.wait()
        await self._drain
        self._wire.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    @property
    def grown(self) -> int:
        """Bytes of memory that it holds more than when this was asked first."""
        resident = self._resident_bytes()
        if self._first_bytes is None:
            self._first_bytes = resident
        return resident - self._first_bytes

    def _resident_bytes(self) -> int:
        """Zero for a process that is gone."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0

    def enforce_memory(self) -> None:
        """The watchdog's look: resident memory above what was declared ends the process with its reason kept."""
        resident = self._resident_bytes()
        if resident > self._memory_bytes and self._over_memory_bytes is None:
            self._over_memory_bytes = resident
            self.kill()

    def _check(self, workspace: UUID) -> None:
        if self.workspace != workspace:
            raise RuntimeError("a job goes only to a run process taken for its own workspace")

    async def _work(
        self,
        job: RunJob | ProbeJob,
        on_frame: FrameHandler,
        redaction: Redaction,
        before_commit: BeforeCommit | None = None,
    ) -> Finished | Answered:
        await self.wait_ready()
        self._busy, self._ready = True, False
        self.jobs += 1
        try:
            await self._wire.send(encode(job))
            while True:
                frame = read_frame(await self._wire.receive())
                if isinstance(frame, Finished | Answered):
                    break
                if isinstance(frame, AboutToCommit):
                    if before_commit is not None:
                        await before_commit()
                    await self._wire.send(encode(MayCommit()))
                elif not isinstance(frame, Ready):
                    await on_frame(frame)
        except WireClosedError:
            error = await self._lost()
            await self._tell_stderr(on_frame, redaction)
            raise error from None
        self._busy = False
        await self._tell_stderr(on_frame, redaction)
        return frame

    async def _tell_stderr(self, on_frame: FrameHandler, redaction: Redaction) -> None:
        text = self._stderr.decode("utf-8", "replace").strip()
        self._stderr.clear()
        if text:
            fields = {"stderr": redaction.text(text)}
            line = LogLine(
                at=self._clock.now(), level="warning", message="the run process wrote to stderr", fields=fields
            )
            await on_frame(line)

    async def _lost(self) -> PlatformError:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)
        self.kill()
        code = await self._process.wait()
        await self._drain
        if self._over_memory_bytes is not None:
            used, allowed = self._over_memory_bytes >> 20, self._memory_bytes >> 20
            return Permanent(
                "run-memory-exceeded", f"The run used {used} MiB of memory; {allowed} MiB are declared for a run."
            )
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Transient("run-process-lost", f"The run process ended in the middle of its work ({how}).")

    async def _read_stderr(self) -> None:
        while data := await self._process.stderr.read(4096):
            self._stderr += data
            if len(self._stderr) > STDERR_BYTES:
                del self._stderr[: len(self._stderr) - STDERR_BYTES]


async def _ignore(_: Progress | LogLine | SchemaChange | CursorCommitted) -> None:
    """A probe's frames on the way are of no interest to a caller who gave no handler."""


class Templates:
    """What run processes and their sandboxes are forked from: nobody's, and warm for every workspace."""

    def __init__(self, folder: Path) -> None:
        self.runs = Template("dataaggregator.dataplane.process", "-P", environment=_environment(), folder=folder)
        self.sandboxes = SandboxTemplates(folder)

    async def rest(self, idle_seconds: float) -> None:
        """End each that nobody needed for so long."""
        for template in (self.runs, self.sandboxes.engine, self.sandboxes.python):
            await template.rest(idle_seconds)

    async def close(self) -> None:
        """End them, with every process that they forked."""
        await self.runs.close()
        await self.sandboxes.close()


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | FRUGAL


async def spawn(templates: Templates, folder: Path, sandbox: SandboxSettings, memory_bytes: int) -> RunProcess:
    """Starts a run process and tells it what its sandbox may use; wait_ready() says when it is warm."""
    spill = Path(tempfile.mkdtemp(prefix="spill-", dir=folder))
    ours, theirs = socket.socketpair()
    held = [theirs, templates.sandboxes.engine.lend(), templates.sandboxes.python.lend()]
    try:
        # Killed as a group, with whatever it started: each that is forked has a session of its own.
        descriptors = (end.fileno() for end in held)
        process = await templates.runs.fork(spill, *descriptors, environment=_environment())
    except BaseException:
        ours.close()
        shutil.rmtree(spill, ignore_errors=True)
        raise
    finally:
        for end in held:
            end.close()
    running = RunProcess(process, await Wire.over(ours), spill, memory_bytes)
    try:
        await running.prepare(sandbox)
    except BaseException:
        running.kill()
        await running.wait_ended()
        raise
    return running
