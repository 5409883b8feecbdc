"""Logs: one event a line with named fields, as JSON or for people, with trace and run ids, without secrets."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import orjson

from dataaggregator.settings import Settings
from dataaggregator.telemetry import traces
from dataaggregator.telemetry.redaction import mask_text, redact_field

_run_id: ContextVar[str | None] = ContextVar("run_id", default=None)
_FIELDS = "platform_fields"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Logger:
    """``log.info("run_started", attempt=2)``: an event in snake_case and its fields."""

    __slots__ = ("_bound", "_log")

    def __init__(self, log: logging.Logger, bound: dict[str, Any] | None = None) -> None:
        self._log = log
        self._bound = bound or {}

    def bind(self, **fields: Any) -> "Logger":
        """A logger that adds these fields to every line."""
        return Logger(self._log, {**self._bound, **fields})

    def debug(self, event: str, **fields: Any) -> None:
        """What only somebody looking for a fault wants to see."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something happened as it should."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something is not as it should be, and goes on."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something failed and a person should look."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """A bug of ours: the event with the stack of the exception that is being handled."""
        self._write(logging.ERROR, event, fields, sys.exc_info()[1])

    def bug(self, event: str, error: BaseException, **fields: Any) -> None:
        """A bug of ours: the event with the stack of ``error``."""
        self._write(logging.ERROR, event, fields, error)

    def _write(self, level: int, event: str, fields: dict[str, Any], error: BaseException | None = None) -> None:
        if self._log.isEnabledFor(level):
            stack = None if error is None else (type(error), error, error.__traceback__)
            record = logging.LogRecord(self._log.name, level, "", 0, event, None, stack)
            record.platform_fields = {**self._bound, **fields} if self._bound else fields
            self._log.handle(record)


def get(name: str) -> Logger:
    """The logger of a module; give ``__name__``."""
    return Logger(logging.getLogger(name))


@contextmanager
def run_context(run_id: object) -> Iterator[None]:
    """Every line written inside carries this run id."""
    token = _run_id.set(str(run_id))
    try:
        yield
    finally:
        _run_id.reset(token)


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Make this process write to standard error (or ``stream``) in the format and from the level of the settings."""
    handler = _Lines(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else ConsoleFormatter())
    # What we never print need not be found out for each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    for known in [known for known in root.handlers if getattr(known, "platform", False)]:
        root.removeHandler(known)
    handler.platform = True  # type: ignore[attr-defined]  # so that a second call replaces the first one's
    root.addHandler(handler)
    level = _LEVELS[settings.log_level]
    root.setLevel(max(level, logging.WARNING))
    for ours in ("dataaggregator", "dataaggregator_connectors", "services"):
        logging.getLogger(ours).setLevel(level)


class _Lines(logging.StreamHandler[TextIO]):
    """Writes lines at once: every call has one, so nothing is asked that is known here."""

    def handle(self, record: logging.LogRecord) -> bool:
        """See logging; there are no filters."""
        add_context(record)
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """See logging."""
        try:
            written = self.format(record) + self.terminator
            with self.lock or nullcontext():
                self.stream.write(written)
                self.stream.flush()
        except Exception:
            self.handleError(record)


def add_context(record: logging.LogRecord) -> None:
    """Put trace and run id on a record while the context it was written in is still the current one."""
    record.trace_id = traces.trace_id()
    record.run_id = _run_id.get()


def line(record: logging.LogRecord) -> dict[str, Any]:
    """A record as plain JSON: time, level, logger, event, ids, fields, error; redacted."""
    found: dict[str, Any] = {
        "time": _time(int(record.created), int(record.msecs)),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": mask_text(record.getMessage()),
    }
    for name in ("trace_id", "run_id"):
        if value := getattr(record, name, None):
            found[name] = value
    for name, value in getattr(record, _FIELDS, {}).items():
        found[name if name not in found else f"{name}_"] = redact_field(name, value)
    if record.exc_info and record.exc_info[0] is not None:
        found["error"] = mask_text(logging.Formatter().formatException(record.exc_info))
    return found


def _time(seconds: int, milliseconds: int) -> str:
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    """RFC 3339 without its end; lines come many to a second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return orjson.dumps(line(record), default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class ConsoleFormatter(logging.Formatter):
    """For people: local time, level, event, fields; the stack below."""

    def format(self, record: logging.LogRecord) -> str:
        found = line(record)
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        stack = found.pop("error", None) if record.exc_info else None
        told = {name: value for name, value in found.items() if name not in ("time", "level", "logger", "event")}
        fields = " ".join(f"{name}={_console(value)}" for name, value in told.items())
        text = f"{at} {record.levelname.lower():7} {found['event']} {fields}".rstrip()
        return f"{text}\n{stack}" if stack else text


def _console(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    one_line = text.replace("\r", "\\r").replace("\n", "\\n")
    return f'"{one_line}"' if " " in one_line or not one_line else one_line
