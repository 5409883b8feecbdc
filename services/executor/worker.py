"""worker: claims runs while it has a free slot, sees each through, records its end; hands its runs back at a stop."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from dataaggregator.bus.signals import Signal
from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs, metrics, traces
from services.executor.attempt import Attempt, Stop
from services.executor.commands import AttemptEnd, Attempts, Ended, run_error
from services.executor.domain import End, Verdict, has_ended
from services.executor.lease import LeaseKeeper
from services.executor.recorder import Recorder
from services.executor.room import Room
from services.executor.store.logs import NewLine
from services.executor.store.runs import Run
from services.executor.storing import Storing
from services.executor.workplace import SharedCall, Workplace

_log = logs.get(__name__)

POLL_SECONDS = 5.0
CANCEL_POLL_SECONDS = 1.0
DRAIN_SECONDS = 10.0
RECORD_PAUSE_SECONDS = 1.0
TOLD_LATER = 8
"""For each slot so many runs may be past it, with their ends being told."""
AHEAD = 8
"""For each slot so many runs may wait for it, claimed and made ready together, while runs are short."""
SHORT_SECONDS = 0.2
WEIGHT_OF_LAST = 0.25


@dataclass(frozen=True)
class WorkerDoors:
    attempts: Attempts
    recorder: Recorder
    keeper: LeaseKeeper
    workplace: Workplace
    storing: Storing | None
    owner: dict[str, object]


class Worker:
    """As many runs at once as there is room for. The bus wakes it through NOTIFY; looking unasked is the net."""

    def __init__(self, doors: WorkerDoors, room: Room, wake: Signal) -> None:
        self._doors = doors
        self._room = room
        self._slots = room.slots
        self._wake = wake
        self._at_work: dict[UUID, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._performing = 0
        self._more_wait = False
        self._usual_seconds = math.inf
        """In a slot, the last runs counting most."""

    async def run(self) -> None:
        """Loop; being cancelled means: hand back what is at work, then end."""
        try:
            while True:
                self._wake.clear()
                pause = await self._look()
                await self._wake.wait(pause)
                self._raise_failures()
        finally:
            await self._drain()

    async def _look(self) -> float:
        """Claim what is due, obey wishes to cancel; the answer is how long to wait for the next look.

        NOTIFY wakes for both; without it a wish to cancel is seen within a second.
        """
        asked_at, free = time.monotonic(), max(0, self._free())
        self._more_wait = True  # until this look says otherwise
        asked: dict[UUID, SharedCall] = {}

        def claimed(runs: Sequence[Run]) -> None:
            asked.update(self._doors.workplace.ask_for(runs))

        try:
            seen = await self._doors.attempts.look(self._doors.owner, free, list(self._at_work), claimed)
        except Transient as error:
            for call in asked.values():
                call.drop()
            _log.warning("claim_failed", detail=error.detail)
            return RECORD_PAUSE_SECONDS
        self._more_wait = len(seen.begun) >= free
        for run_id in seen.cancelled:
            if (attempt := self._at_work.get(run_id)) is not None:
                attempt.stop(Stop.CANCEL)
        for one in seen.begun:
            self._begin(self._doors.workplace.attempt(one, asked), asked_at)
        due_in = seen.due_in_seconds
        pause = POLL_SECONDS if due_in is None else min(POLL_SECONDS, due_in + 0.01)
        return min(pause, CANCEL_POLL_SECONDS) if self._at_work else pause

    def _free(self) -> int:
        """How many runs may be claimed: a slot is free again when its run process is; telling the end does not need
        one, but must keep up. None while memory is short."""
        if not self._room.takes_more:
            return 0
        most = self._slots + self._ahead()
        return min(most - self._performing, most + self._slots * TOLD_LATER - len(self._tasks))

    def _ahead(self) -> int:
        """Runs beyond the slots: only while none of them would have to wait for long."""
        longest = max((attempt.seconds_in_slot for attempt in self._at_work.values()), default=0.0)
        return self._slots * AHEAD if max(self._usual_seconds, longest) < SHORT_SECONDS else 0

    @property
    def _crowded(self) -> bool:
        """Whether more short runs wait than may wait here: an end that is told a little later is told with others."""
        return self._more_wait and self._performing > self._slots and self._ahead() > 0

    def _begin(self, attempt: Attempt, claimed_at: float) -> None:
        run = attempt.run
        self._at_work[run.run_id] = attempt
        self._performing += 1
        self._doors.keeper.hold(run.run_id, run.epoch, claimed_at, lambda: attempt.stop(Stop.LEASE_LOST))
        task = asyncio.create_task(self._see_through(attempt), name=f"attempt-{run.run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._slot_freed)

    async def _see_through(self, attempt: Attempt) -> None:
        run = attempt.run
        attributes: dict[str, str | int] = {"run_id": str(run.run_id), "attempt": run.attempt}
        with traces.continue_from(run.traceparent, "run attempt", attributes), logs.run_context(run.run_id):
            _log.info("attempt_started", attempt=run.attempt, lease_epoch=run.epoch)
            try:
                ended = await self._perform(attempt)
                if ended is not None and self._doors.storing is not None:
                    ended = await self._doors.storing.at_end(run, ended)
                verdict = None if ended is None else await self._record(attempt, ended)
            finally:
                self._doors.keeper.release(run.run_id)
                if self._doors.storing is not None:
                    self._doors.storing.forget(run.run_id)
                self._at_work.pop(run.run_id, None)
            await self._close(run, ended, verdict)

    async def _perform(self, attempt: Attempt) -> AttemptEnd | None:
        try:
            return await attempt.perform()
        finally:
            self._performing -= 1
            if seconds := attempt.seconds_in_slot:
                usual = seconds if math.isinf(self._usual_seconds) else self._usual_seconds
                self._usual_seconds = usual + WEIGHT_OF_LAST * (seconds - usual)
            self._slot_freed()

    def _slot_freed(self, task: asyncio.Task[None] | None = None) -> None:
        """Look for the next run if one may wait: what is queued from now on wakes by itself.

        While others wait here for the slots there is time to let several be claimed together.
        """
        failed = task is not None and (task.cancelled() or task.exception() is not None)
        if failed or (self._more_wait and self._free() > self._ahead() // 2):
            self._wake.fire()
        elif task is not None:
            self._tasks.discard(task)

    async def _record(self, attempt: Attempt, ended: AttemptEnd) -> Verdict | None:
        """As long as the lease is ours the end is told again and again: the work may be long, telling it is short."""
        lines: Sequence[NewLine] | None = None
        while not attempt.lease_lost:
            try:
                if lines is None:
                    lines = await attempt.last_lines()
                return await self._doors.recorder.record(Ended(attempt.run, ended, lines), at_once=not self._crowded)
            except Transient as error:
                _log.warning("outcome_not_recorded", detail=error.detail)
                await asyncio.sleep(RECORD_PAUSE_SECONDS)
            except Exception as bug:
                _log.bug("outcome_refused", bug)
                if lines is None or lines:
                    lines = ()  # it may have been they, and they are not worth an outcome
                    continue
                if ended.outcome is None:
                    return None  # the lease ends and the reaper counts a loss: a run never stops the executor
                detail = "The executor could not store the attempt's outcome; its log has the stack."
                ended = AttemptEnd(End.FAILED, run_error("internal-error", detail, retryable=False))
        return None

    async def _close(self, run: Run, ended: AttemptEnd | None, verdict: Verdict | None) -> None:
        if ended is None or verdict is None:
            _log.warning("attempt_overtaken", attempt=run.attempt, lease_epoch=run.epoch)
            return
        code = None if verdict.error is None else verdict.error.code
        _log.info("attempt_ended", attempt=run.attempt, ended=ended.end, status=verdict.status, code=code)
        if has_ended(verdict.status):
            _count(run, ended, verdict)
            await self._doors.workplace.clear(run, all_stored=ended.stored)

    def _raise_failures(self) -> None:
        """An attempt's task never fails by what a run does; if it fails, that is a bug and the service stops."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()

    async def _drain(self) -> None:
        for attempt in list(self._at_work.values()):
            attempt.stop(Stop.HAND_BACK)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _count(run: Run, ended: AttemptEnd, verdict: Verdict) -> None:
    metrics.RUNS.of(verdict.status).inc()
    if run.started_at is not None:
        # By this machine's clock against the database's: a metric bears the difference.
        metrics.RUN_DURATION.observe(max(0.0, time.time() - run.started_at.timestamp()))
    if ended.outcome is not None:
        counts = ended.outcome.counts
        for outcome in ("read", "written", "filtered", "rejected"):
            metrics.RUN_ROWS.of(outcome).inc(getattr(counts, f"rows_{outcome}"))
    if verdict.error is not None and verdict.error.code == "unbalanced":
        metrics.RUN_UNBALANCED.inc()
