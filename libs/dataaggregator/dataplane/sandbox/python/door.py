"""The sandbox's side of the wire to the user's Python: one question, one answer, within a time; nothing is believed."""

import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

import dataaggregator
from dataaggregator.dataplane.sandbox import rows, values, wire
from dataaggregator.dataplane.sandbox.answers import PYTHON_LOST
from dataaggregator.dataplane.sandbox.python import PRINTED_CHARACTERS
from dataaggregator.dataplane.steps.engine import Place
from dataaggregator.errors import Permanent

ROW_BYTES = 8
"""A row counts for so much at least: some columns hold any number of rows in no bytes."""
UNSAID = "what it says may be a row's; a test or a plan shows it to who may read rows"
_OURS = sorted({sys.prefix, sys.base_prefix, str(Path(dataaggregator.__file__).parent.parent)}, key=len, reverse=True)


class Door:
    """The process of the user's Python, as steps see it. `printed` is called with a stage and what it said there."""

    def __init__(
        self, end: socket.socket, seconds: int, output_bytes: int, printed: Callable[[str, str], None]
    ) -> None:
        self._end = end
        self._seconds = seconds
        self._output_bytes = output_bytes
        self._printed = printed
        self._steps = 0
        self._ready = False

    def load(self, source: str, schema: pa.Schema, place: Place, parameters: Mapping[str, Any] | None = None) -> int:
        """Run a step's source; gives the step's number here. `parameters` go to a function that takes them."""
        if not self._ready:
            self._answer(place, "ready")
            self._ready = True
        self._steps += 1
        header = {"kind": "load", "step": self._steps, "source": source, "schema": rows.encode_schema(schema)}
        self._send(place, header if parameters is None else {**header, "parameters": values.encode(parameters)})
        self._answer(place, "loaded")
        return self._steps

    def take(self, step: int, batch: pa.RecordBatch, place: Place) -> None:
        """Hand over rows for the next call."""
        self._send(place, {"kind": "rows", "step": step}, rows.encode(batch))

    def transform(self, step: int, place: Place) -> pa.Schema:
        """Call the function with all rows handed over; gives the schema of what comes out."""
        self._send(place, {"kind": "transform", "step": step})
        header = self._answer(place, "transformed").header
        with _read(place):
            return rows.decode_schema(str(header["schema"]))

    def given(self, step: int, place: Place) -> Iterator[pa.RecordBatch]:
        """What came out of the call, batch by batch, each checked to be what it says it is."""
        size = 0
        while True:
            self._send(place, {"kind": "next", "step": step})
            frame = self._answer(place, "rows", "end")
            if frame.kind == "end":
                return
            with _read(place):
                batch = rows.decode_untrusted(frame.body)
            size += max(batch.nbytes, ROW_BYTES * batch.num_rows)
            if size > self._output_bytes:
                most = f"{self._output_bytes >> 20} MiB of rows, the most a step may give"
                raise Permanent("sandbox-output", f"{place.stage}: transform gave more than {most}")
            yield batch

    def _send(self, place: Place, header: Mapping[str, Any], body: Any = b"") -> None:
        self._end.settimeout(self._seconds)
        try:
            wire.send(self._end, header, body)
        except TimeoutError as error:
            raise self._late(place) from error
        except OSError as error:
            raise _lost(place) from error

    def _answer(self, place: Place, *kinds: str) -> wire.Frame:
        try:
            frame = wire.receive(_Patient(self._end, self._seconds))
        except TimeoutError as error:
            raise self._late(place) from error
        except wire.BrokenWireError as error:
            raise place.invalid("python-output-invalid", "the Python process sent what is no answer") from error
        except OSError as error:
            raise _lost(place) from error
        if frame is None:
            raise _lost(place)
        if said := str(frame.header.get("printed", ""))[:PRINTED_CHARACTERS]:
            self._printed(place.stage, _without_paths(said))
        if frame.kind == "failed":
            raise _failed(frame.header, place)
        if frame.kind == "error":
            raise Permanent("sandbox-unavailable", str(frame.header.get("detail"))[:PRINTED_CHARACTERS])
        if frame.kind not in kinds:
            raise place.invalid("python-output-invalid", f"the Python process answered {frame.kind[:100]} out of turn")
        return frame

    def _late(self, place: Place) -> Permanent:
        return Permanent("sandbox-timeout", f"{place.stage}: the Python gave no answer within {self._seconds} s")


class _Patient:
    """A socket that gives up at a moment, however its bytes come."""

    def __init__(self, end: socket.socket, seconds: int) -> None:
        self._end = end
        self._until = time.monotonic() + seconds

    def recv_into(self, room: memoryview, /) -> int:
        self._end.settimeout(max(0.001, self._until - time.monotonic()))
        return self._end.recv_into(room)


@contextmanager
def _read(place: Place) -> Iterator[None]:
    """What cannot be read as Arrow is the user's doing."""
    try:
        yield
    except MemoryError:  # Arrow's own is one of its exceptions too
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        message = "the Python process sent rows that cannot be read"
        raise place.invalid("python-output-invalid", message) from error


def _lost(place: Place) -> Permanent:
    return Permanent(PYTHON_LOST, place.stage)


def _failed(header: Mapping[str, Any], place: Place) -> Exception:
    if header.get("why") == "memory":
        return Permanent("sandbox-memory", f"{place.stage}: the Python needed more memory than a sandbox may use")
    line = header.get("line")
    where = f"line {line}: " if isinstance(line, int) else ""
    if header.get("why") == "returned":
        return place.invalid("python-output-invalid", where + _said(header, "message"))
    kind, said = _said(header, "error"), _said(header, "message")
    if not place.rows_shown:
        # Python's own sentences hold values as often as not: "invalid literal for int() with base 10: ...".
        said = UNSAID if said else ""
    return place.invalid("python-failed", f"{where}{kind}: {said}" if said else where + kind)


def _said(header: Mapping[str, Any], key: str) -> str:
    return _without_paths(str(header.get(key, ""))[:PRINTED_CHARACTERS])


def _without_paths(text: str) -> str:
    """Where we are installed is nobody's business."""
    for path in _OURS:
        text = text.replace(path, "…")
    return text
