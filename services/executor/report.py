"""report: what an attempt says while it goes on: log lines, progress, schema changes, cursors of committed chunks."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from dataaggregator.bus import Bus, ephemeral
from dataaggregator.clock import Clock
from dataaggregator.contracts.run import RunProgressed
from dataaggregator.dataplane.job import CursorCommitted, KnownCursor, LogLine, Progress, SchemaChange
from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs as telemetry
from services.executor.commands import SOURCE, AttemptEnd, Attempts
from services.executor.run_log import RunLog
from services.executor.store import logs, runs
from services.executor.store.logs import NewLine
from services.executor.store.runs import Run
from services.executor.whereabouts import identify

_log = telemetry.get(__name__)

FLUSH_SECONDS = 0.5
PROGRESS_SAVE_SECONDS = 1.0

Frame = Progress | LogLine | SchemaChange | CursorCommitted


class Report:
    """An async context around one attempt; the lines that still wait at its end are stored with the outcome."""

    def __init__(self, run: Run, attempts: Attempts, database: Database, bus: Bus, clock: Clock) -> None:
        self._run = run
        self._attempts = attempts
        self._database = database
        self._bus = bus
        self._clock = clock
        self._lines = RunLog(run.attempt, self)
        self._counted = run.first_claim
        self._schema_changes: list[SchemaChange] = []
        self._progress: RunProgressed | None = None
        self._saved_at = 0.0
        self._pid: int | None = None
        self._done = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._flusher = asyncio.create_task(self._flush_often(), name=f"report-{self._run.run_id}")
        self.tell("info", f"Attempt {self._run.attempt} started.", lease_epoch=self._run.epoch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._flusher is not None:
            await self._flusher

    def tell(self, level: str, message: str, **fields: object) -> None:
        self._lines.add(self._clock.now(), level, message, fields)

    def tell_end(self, ended: AttemptEnd | None) -> None:
        if ended is None:
            return
        if ended.error is None:
            self.tell("info", f"Attempt {self._run.attempt} ended: {ended.end}.")
        else:
            self.tell("error", ended.error.detail, code=ended.error.code, stage=ended.error.stage, ended=ended.end)

    def work_in(self, pid: int) -> None:
        """Which process is at work, for a successor that finds an orphan: a hint, told of runs that take a while."""
        self._pid = pid

    async def take_lines(self) -> Sequence[NewLine]:
        """The lines not stored yet, now the caller's."""
        return await self._lines.take()

    async def frame(self, frame: Frame) -> None:
        if isinstance(frame, LogLine):
            self._lines.add(frame.at, frame.level, frame.message, dict(frame.fields))
        elif isinstance(frame, Progress):
            await self._tell_progress(frame)
        elif isinstance(frame, SchemaChange):
            self._schema_changes.append(frame)
        else:
            cursor = KnownCursor(destination=frame.destination, source=frame.source, cursor=frame.cursor)
            with contextlib.suppress(Transient):  # the outcome tells it again
                await self._attempts.record_cursors(self._run, [cursor])

    async def _tell_progress(self, frame: Progress) -> None:
        self._progress = RunProgressed(
            run_id=self._run.run_id,
            pipeline_id=self._run.pipeline_id,
            attempt=self._run.attempt,
            progress=frame.progress,
            stages=frame.stages,
            rows_read=frame.rows_read,
            rows_written=frame.rows_written,
        )
        subject = str(self._run.run_id)
        event = ephemeral(self._progress, subject=subject, workspace=self._run.workspace_id, source=SOURCE)
        await self._bus.publish_ephemeral(event)

    async def _flush_often(self) -> None:
        """Until the attempt is over, and once more then if there is more than lines."""
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), FLUSH_SECONDS)
            if self._schema_changes or not self._counted or not self._done.is_set():
                await self._flush()

    async def _flush(self) -> None:
        """What cannot be stored now stays and is tried again; what cannot be stored at all never ends an attempt."""
        try:
            while self._schema_changes:
                await self._attempts.record_schema_change(self._run, self._schema_changes[0])
                del self._schema_changes[0]
            await self._lines.flush()
            await self._save_process()
            await self._save_progress()
        except Transient as error:
            _log.warning("report_postponed", detail=error.detail)
        except Exception as bug:
            _log.bug("report_refused", bug)
            self._schema_changes.clear()
            self._lines.drop()

    async def _save_process(self) -> None:
        if self._pid is None:
            return
        pid, self._pid = self._pid, None
        if (identity := identify(pid)) is not None:
            async with self._database.transaction(self._run.workspace_id, durable=False) as tx:
                await runs.save_process(tx, self._run.run_id, self._run.epoch, identity.as_json())

    async def _save_progress(self) -> None:
        if self._progress is None or time.monotonic() - self._saved_at < PROGRESS_SAVE_SECONDS:
            return
        progress, self._progress = self._progress, None
        async with self._database.transaction(self._run.workspace_id) as tx:
            await runs.save_progress(tx, self._run.run_id, self._run.epoch, progress.model_dump(mode="json"))
        self._saved_at = time.monotonic()

    async def store(self, lines: Sequence[NewLine], committing: Callable[[str], None]) -> None:
        """As the shelf of its log."""
        async with self._database.transaction(self._run.workspace_id) as tx:
            if not self._counted:
                self._lines.count_stored(await logs.count_lines(tx, self._run.run_id))
                self._counted = True
            told = logs.RunLines(self._run.run_id, self._run.epoch, lines)
            if (transaction := await logs.add_lines(tx, self._run.workspace_id, [told])) is not None:
                committing(transaction)

    async def has_committed(self, transaction: str) -> bool:
        """As the shelf of its log."""
        async with self._database.transaction(self._run.workspace_id) as tx:
            return await logs.has_committed(tx, transaction)
