"""The user's Python at work: rows come in by batches, `transform` is called, what it gives goes out by batches.

Nothing here is trusted: whoever reads its answers checks them.
"""

import io
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.csv

from dataaggregator.dataplane.sandbox import rows, seccomp, values, wire
from dataaggregator.dataplane.sandbox.lockdown import Facts
from dataaggregator.dataplane.sandbox.python import PIECE_BYTES, PIECE_ROWS, PRINTED_CHARACTERS, SOURCE_NAME


class Printed(io.TextIOBase):
    """Takes the place of stdout and stderr; keeps the first of what is printed for one answer."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._room = PRINTED_CHARACTERS

    def write(self, text: str) -> int:
        """Keep as much as there is room for."""
        if self._room > 0:
            self._parts.append(text[: self._room])
            self._room -= len(self._parts[-1])
        return len(text)

    def take(self) -> str:
        """What was printed since the last time."""
        said = "".join(self._parts)
        self._parts, self._room = [], PRINTED_CHARACTERS
        return said


class ReturnedError(Exception):
    """What `transform` gave is no table."""


class Step:
    """One python step: its function, the rows it has got so far, and what it gave."""

    def __init__(self, source: str, schema: pa.Schema, parameters: Mapping[str, Any] | None) -> None:
        code = compile(source, SOURCE_NAME, "exec", dont_inherit=True)
        names: dict[str, Any] = {"__name__": "transform"}
        exec(code, names)  # noqa: S102 (this is what the process is for, and why it is locked)
        self._transform: Callable[..., Any] = names["transform"]
        self._parameters = parameters
        self._schema = schema
        self._taken: list[pa.RecordBatch] = []
        self.given: Iterator[pa.RecordBatch] = iter(())

    def take(self, batch: pa.RecordBatch) -> None:
        """Keep rows for the call."""
        self._taken.append(batch)

    def transform(self) -> pa.Schema:
        """Call the function with all rows; `given` then has what comes out."""
        table = pa.Table.from_batches(self._taken, self._schema)
        self._taken = []
        # A copy each time: what one call does to it is not the next one's matter.
        found = self._transform(table) if self._parameters is None else self._transform(table, dict(self._parameters))
        if isinstance(found, pa.RecordBatch):
            found = pa.Table.from_batches([found])
        if not isinstance(found, pa.Table):
            raise ReturnedError(f"transform must return a pyarrow.Table; this returned a {type(found).__name__}")
        self.given = _pieces(found)
        return found.schema


def _pieces(table: pa.Table) -> Iterator[pa.RecordBatch]:
    for batch in table.to_reader(max_chunksize=PIECE_ROWS):
        count = max(1, batch.num_rows * PIECE_BYTES // max(batch.nbytes, PIECE_BYTES))
        for at in range(0, batch.num_rows, count):
            yield batch.slice(at, count)


class Worker:
    """Answers one question after the other; keeps the steps by number."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._steps: dict[int, Step] = {}
        self._printed = Printed()
        sys.stdout = sys.stderr = self._printed

    def take(self, frame: wire.Frame) -> None:
        """Act on one frame of the sandbox; what goes wrong is an answer too."""
        try:
            header, body = self._answer(frame)
        except BaseException as error:
            header, body = _failure(error), b""
        if header:
            wire.send(self._end, {**header, "printed": self._printed.take()}, body)

    def _answer(self, frame: wire.Frame) -> tuple[Mapping[str, Any], Any]:
        number = int(frame.header["step"])
        match frame.kind:
            case "load":
                given = frame.header.get("parameters")
                parameters = None if given is None else values.decode(given)
                schema = rows.decode_schema(frame.header["schema"])
                self._steps[number] = Step(frame.header["source"], schema, parameters)
                return {"kind": "loaded"}, b""
            case "rows":
                self._steps[number].take(rows.decode(frame.body))
                return {}, b""
            case "transform":
                schema = self._steps[number].transform()
                return {"kind": "transformed", "schema": rows.encode_schema(schema)}, b""
        batch = next(self._steps[number].given, None)
        return ({"kind": "end"}, b"") if batch is None else ({"kind": "rows"}, rows.encode(batch))


def _failure(error: BaseException) -> Mapping[str, Any]:
    """The error as an answer: the line in the user's source where it came up, or went through last."""
    if isinstance(error, MemoryError):
        return {"kind": "failed", "why": "memory"}
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == SOURCE_NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == SOURCE_NAME:
        line = error.lineno
    why = "returned" if isinstance(error, ReturnedError) else "raised"
    return {"kind": "failed", "why": why, "line": line, "error": type(error).__name__, "message": _told(error)}


def _told(error: BaseException) -> str:
    try:
        return str(error)[:PRINTED_CHARACTERS]
    except Exception:  # an error of the user's own that cannot even be shown
        return ""


def work(end: socket.socket, facts: Facts) -> None:
    """Start the threads Arrow needs, lock the door behind them, then answer until the wire closes."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    pa.csv.read_csv(io.BytesIO(b"a\n1\n"))
    pa.table({"a": [1]}).group_by("a").aggregate([])
    if facts.seccomp:
        seccomp.no_more_threads()
    worker = Worker(end)
    wire.send(end, {"kind": "ready"})
    while (frame := wire.receive(end)) is not None:
        worker.take(frame)
