"""What a run process tells the executor on its way: frames in order, every text without the job's secrets."""

import asyncio
import logging
import traceback
from collections import deque
from typing import Any, Literal, Protocol

from dataaggregator.clock import Clock, SystemClock
from dataaggregator.contracts.run import RunError
from dataaggregator.dataplane.failures import leaf, run_error
from dataaggregator.dataplane.job import (
    AboutToCommit,
    Answered,
    AnyFrame,
    CursorCommitted,
    Finished,
    LogLine,
    Progress,
    SchemaChange,
    encode,
)
from dataaggregator.dataplane.redaction import Redaction
from dataaggregator.dataplane.wire import Wire, WireClosedError
from dataaggregator.errors import PlatformError

Level = Literal["debug", "info", "warning", "error"]
WAITING_LINES = 1_000


class Teller(Protocol):
    """What a run tells on its way."""

    def tell(self, frame: Progress | LogLine | SchemaChange | CursorCommitted) -> None: ...

    def log(self, level: Level, message: str, **fields: Any) -> None: ...

    async def before_commit(self) -> None: ...


def explained(error: BaseException, report: Teller) -> RunError:
    """What a run says of it. The trace goes to the log, and only for errors that are ours."""
    cause, _ = leaf(error)
    told = run_error(error)
    if isinstance(cause, PlatformError):
        report.log("error", told.detail, code=told.code, stage=told.stage)
    else:
        trace = "".join(traceback.format_exception(cause))
        report.log("error", told.detail, code=told.code, stage=told.stage, trace=trace)
    return told


class Reporter:
    """Sends from one task, so that neither a log line nor a slow executor holds up the rows."""

    def __init__(self, wire: Wire, clock: Clock | None = None) -> None:
        self._wire = wire
        self._clock = clock or SystemClock()
        self._redaction = Redaction(())
        self._frames: asyncio.Queue[AnyFrame] = asyncio.Queue()
        self._asked: deque[asyncio.Future[None]] = deque()
        self._sender = asyncio.create_task(self._send_all(), name="report")

    def redact(self, redaction: Redaction) -> None:
        self._redaction = redaction

    def tell(self, frame: AnyFrame) -> None:
        self._frames.put_nowait(frame)

    async def before_commit(self) -> None:
        """Returns when the executor lets the run commit."""
        answer = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self.tell(AboutToCommit())
        await answer

    def may_commit(self) -> None:
        """The executor's answer; who asked may have been cancelled meanwhile."""
        answer = self._asked.popleft()
        if not answer.done():
            answer.set_result(None)

    def log(self, level: Level, message: str, **fields: Any) -> None:
        """A structured line of the run; beyond a thousand unsent ones only warnings and errors are kept."""
        if self._frames.qsize() < WAITING_LINES or level in {"warning", "error"}:
            self.tell(LogLine(at=self._clock.now(), level=level, message=message, fields=fields))

    async def flush(self) -> None:
        """Raises what a frame could not be sent for."""
        joined = asyncio.ensure_future(self._frames.join())
        try:
            await asyncio.wait({joined, self._sender}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            joined.cancel()
        if self._sender.done():
            self._sender.result()

    def _redacted(self, frame: AnyFrame) -> AnyFrame:
        match frame:
            case LogLine():
                fields = self._redaction.value(frame.model_dump(mode="json")["fields"])
                return frame.model_copy(update={"message": self._redaction.text(frame.message), "fields": fields})
            case Finished() | SchemaChange() | CursorCommitted():
                return type(frame).model_validate(self._redaction.outcome(frame.model_dump(mode="json")))
            case Answered():
                return Answered.model_validate(self._redaction.value(frame.model_dump(mode="json")))
        return frame

    async def _send_all(self) -> None:
        while True:
            frame = await self._frames.get()
            try:
                await self._wire.send(encode(self._redacted(frame)))
            except WireClosedError:
                return  # the executor is gone: the reading side of the wire ends this process
            finally:
                self._frames.task_done()


class ReportHandler(logging.Handler):
    """Log records of connectors and libraries become lines of the run."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.INFO)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "info"
        if record.levelno >= logging.ERROR:
            level = "error"
        elif record.levelno >= logging.WARNING:
            level = "warning"
        self._reporter.log(level, record.getMessage(), logger=record.name)
