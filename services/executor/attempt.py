"""attempt: one attempt of a run: the job made ready, a run process at work, its frames handed on, its end judged."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from dataaggregator.dataplane.job import LogLine, RunJob, RunOutcome
from dataaggregator.dataplane.processes import ProcessPool, RunProcess
from dataaggregator.errors import PlatformError
from dataaggregator.telemetry import logs
from services.executor.commands import AttemptEnd, error_of, run_error
from services.executor.domain import CANCELLED, End, Ending, Status
from services.executor.report import Frame, Report
from services.executor.room import Room
from services.executor.store.logs import NewLine
from services.executor.store.runs import Run

_log = logs.get(__name__)


ASKED_TO_STOP = "Asked to stop, because somebody cancelled the run."


class Stop(IntEnum):
    """Why an attempt is to stop, the weightier ones last: a later wish counts only if it weighs more."""

    CANCEL = 1
    TIMEOUT = 2
    STALL = 3
    HAND_BACK = 4
    LEASE_LOST = 5


@dataclass(frozen=True)
class AttemptLimits:
    stall_seconds: float
    cancel_grace_seconds: float = 6.0
    """Between asking a run process to stop and ending it: a cancel is obeyed within ten seconds."""
    slot_wait_seconds: float = 2.0
    """A run that was claimed and waits longer for a slot or for memory is given back: another executor may have it."""


@dataclass(frozen=True)
class AttemptDoors:
    """What an attempt needs from around it."""

    pool: ProcessPool
    room: Room
    prepare: Callable[[], Awaitable[RunJob]]
    before_commit: Callable[[], Awaitable[None]] | None = None
    """Where rejected rows can outlive this machine."""


class Attempt:
    """Supervises one run process. `perform` returns how it ended, or None when the lease was lost: then nobody
    may write anything about it any more."""

    def __init__(self, run: Run, doors: AttemptDoors, report: Report, limits: AttemptLimits) -> None:
        self.run = run
        self._report = report
        self._doors = doors
        self._limits = limits
        self._stop: Stop | None = None
        self._nudge = asyncio.Event()
        self._process: RunProcess | None = None
        self._begun = False
        self._waits_since: float | None = None
        self._slot_at: float | None = None
        self._asked_at: float | None = None
        self._began_at = self._moved_at = time.monotonic()

    @property
    def lease_lost(self) -> bool:
        return self._stop is Stop.LEASE_LOST

    @property
    def seconds_in_slot(self) -> float:
        """How long it has had a slot; 0 for one that waits for it."""
        return 0.0 if self._slot_at is None else time.monotonic() - self._slot_at

    @property
    def _timeout_seconds(self) -> float | None:
        """What the pipeline allows; asking the destinations how a run has ended is not its work."""
        return None if self.run.ending is not None else self.run.timeout_seconds

    def stop(self, why: Stop) -> None:
        if self._stop is None or why > self._stop:
            self._stop = why
            self._nudge.set()

    async def last_lines(self) -> Sequence[NewLine]:
        """What of the log is not stored yet, to be stored with the end; Transient while that is not known."""
        return await self._report.take_lines()

    async def perform(self) -> AttemptEnd | None:
        async with self._report:
            ended = await self._perform()
            self._report.tell_end(ended)
        return ended

    async def _perform(self) -> AttemptEnd | None:
        work = asyncio.create_task(self._work(), name=f"run-{self.run.run_id}")
        try:
            await self._supervise(work)
        finally:
            work.cancel()
            ended = (await asyncio.gather(work, return_exceptions=True))[0]
        if self.lease_lost:
            return None
        return self._judge(ended)

    async def _work(self) -> RunOutcome:
        job = await self._doors.prepare()
        if (lack := self._doors.room.lacks(job)) is not None:
            self._report.tell("info", lack)
        self._waits_since = time.monotonic()
        async with self._doors.room.taken(job):
            self._waits_since, self._slot_at = None, time.monotonic()
            async with self._doors.pool.take(self.run.workspace_id) as process:
                return await self._work_in(process, job)

    async def _work_in(self, process: RunProcess, job: RunJob) -> RunOutcome:
        self._process, self._moved_at, self._begun = process, time.monotonic(), True
        self._report.work_in(process.pid)
        try:
            return await process.run(job, self._on_frame, self._doors.before_commit)
        finally:
            self._process = None

    async def _on_frame(self, frame: Frame) -> None:
        if not isinstance(frame, LogLine):
            self._moved_at = time.monotonic()
        await self._report.frame(frame)

    async def _supervise(self, work: asyncio.Task[RunOutcome]) -> None:
        """Returns when the work is done, or is to be ended."""
        while not work.done():
            nudge = asyncio.create_task(self._nudge.wait())
            try:
                await asyncio.wait({work, nudge}, timeout=self._until_next_limit(), return_when="FIRST_COMPLETED")
            finally:
                nudge.cancel()
            self._nudge.clear()
            self._check_limits()
            if self._stop is not None and not work.done() and await self._has_to_end(self._stop):
                if self._process is not None:
                    self._process.kill()
                return

    def _until_next_limit(self) -> float:
        """Getting ready (configurations, a warm process) has limits of its own: a stall is the run process's."""
        limits = [self._moved_at + self._limits.stall_seconds]
        timeout = self._timeout_seconds
        if timeout is not None:
            limits.append(self._began_at + timeout)
        if self._asked_at is not None:
            limits.append(self._asked_at + self._limits.cancel_grace_seconds)
        if self._waits_since is not None:
            limits.append(self._waits_since + self._limits.slot_wait_seconds)
        return max(0.05, min(limits) - time.monotonic())

    def _check_limits(self) -> None:
        now = time.monotonic()
        timeout = self._timeout_seconds
        if timeout is not None and now >= self._began_at + timeout:
            self.stop(Stop.TIMEOUT)
        if self._process is not None and now >= self._moved_at + self._limits.stall_seconds:
            self.stop(Stop.STALL)
        if self._waits_since is not None and now >= self._waits_since + self._limits.slot_wait_seconds:
            self.stop(Stop.HAND_BACK)

    async def _has_to_end(self, why: Stop) -> bool:
        """Only a cancel asks first: a run process between two batches rolls back in order and tells its ledger."""
        if why is not Stop.CANCEL or self._process is None:
            return True
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._report.tell("info", ASKED_TO_STOP)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.cancel(), self._limits.cancel_grace_seconds)
            return False
        return time.monotonic() >= self._asked_at + self._limits.cancel_grace_seconds

    def _judge(self, ended: RunOutcome | BaseException) -> AttemptEnd:
        """What the run process told counts first: what is committed is committed, whatever was wished meanwhile."""
        if isinstance(ended, RunOutcome):
            end = End.LOST if _commit_is_unknown(ended) else End(ended.status)
            return AttemptEnd(end, ended.error, ended)
        if self._stop is not None:
            return self._stopped(self._stop)
        if isinstance(ended, PlatformError):
            end = End.LOST if ended.code == "run-process-lost" else End.FAILED
            return AttemptEnd(end, error_of(ended))
        _log.bug("attempt_broke", ended)
        detail = "The executor met an error of its own; its log has the stack."
        return AttemptEnd(End.FAILED, run_error("internal-error", detail, retryable=True))

    def _stopped(self, why: Stop) -> AttemptEnd:
        """By force: a run process that had begun may have committed, and took what it knew with it."""
        if why is Stop.HAND_BACK:
            return AttemptEnd(End.HANDED_BACK, begun=self._begun)
        ending = CANCELLED
        if why is Stop.TIMEOUT:
            allowed = self.run.timeout_seconds or 0.0
            detail = f"The attempt took longer than the {allowed:g} seconds its pipeline allows."
            ending = Ending(Status.TIMED_OUT, run_error("run-timeout", detail, retryable=False))
        elif why is Stop.STALL:
            detail = f"Nothing moved in the run for {self._limits.stall_seconds:g} seconds."
            ending = Ending(Status.TIMED_OUT, run_error("run-stalled", detail, retryable=False))
        if not self._begun:
            return AttemptEnd(End(ending.status), ending.error)
        detail = "The run process was ended by force; the destinations are asked what they hold."
        return AttemptEnd(End.KILLED, run_error("run-killed", detail, retryable=True), ending=ending)


def _commit_is_unknown(outcome: RunOutcome) -> bool:
    return any(one.error is not None and one.error.code == "commit-unknown" for one in outcome.destinations)
