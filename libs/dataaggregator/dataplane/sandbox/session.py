"""The untrusted side at work: load, push and finish come in; rows, rejected rows, counts and errors go out."""

import socket
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pydantic import TypeAdapter

from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.sandbox import rows, values, wire
from dataaggregator.dataplane.sandbox.answers import memory_sentence
from dataaggregator.dataplane.sandbox.lockdown import Facts, Lock
from dataaggregator.dataplane.sandbox.messages import Rejected
from dataaggregator.dataplane.sandbox.python.door import Door
from dataaggregator.dataplane.steps.engine import BATCH_ROWS, Engine
from dataaggregator.dataplane.steps.node import Graph, NodeSpec
from dataaggregator.errors import PlatformError

_COUNTS_EVERY_SECONDS = 0.5
_STEP: TypeAdapter[Step] = TypeAdapter(Step)


class Session:
    """One load: a graph of transformations on an engine of its own."""

    def __init__(self, end: socket.socket, lock: Lock) -> None:
        self._end = end
        self._engine = Engine(lock.memory_bytes, lock.spill or Path(), lock.spill_bytes)
        self._spill_bytes = lock.spill_bytes
        self._python: Door | None = None
        self._graph: Graph | None = None
        self._open: set[str] = set()
        self._wanted: frozenset[str] = frozenset()
        self._samples = 0
        self._sampled: Counter[str] = Counter()
        self._counted_at = 0.0

    def take(self, frame: wire.Frame) -> None:
        """Act on one frame of the host."""
        header = frame.header
        match frame.kind:
            case "python":
                _, (descriptor, *_), *_ = socket.recv_fds(self._end, 1, 1)
                python = socket.socket(fileno=descriptor)
                self._python = Door(python, int(header["seconds"]), self._spill_bytes, self._printed)
            case "load":
                self._load(header)
            case "push":
                self._at_work().push(header["input"], rows.decode(frame.body))
                self._tell_counts()
            case "finish":
                self._finish(header["input"])

    def _at_work(self) -> Graph:
        if self._graph is None:
            raise PlatformError("sandbox-killed", "rows came before anything was loaded")
        return self._graph

    def _load(self, header: Any) -> None:
        specs = [
            NodeSpec(
                node["name"],
                tuple(node["inputs"]),
                tuple(_STEP.validate_python(step) for step in node["steps"]),
                tuple(node["stages"]),
                node["path"],
                tuple(node["keep"]),
                node["delete_when"],
            )
            for node in header["nodes"]
        ]
        inputs = {name: rows.decode_schema(text) for name, text in header["inputs"].items()}
        self._wanted, self._samples = frozenset(header["outputs"]), int(header["samples"])
        self._engine.rows_shown = self._samples > 0
        mask_key = bytes.fromhex(header["mask_key"]) if header["mask_key"] else None
        parameters = values.decode(header["parameters"])
        graph = Graph(specs, inputs, self._engine, parameters, self, mask_key=mask_key, python=self._python)
        self._graph, self._open = graph, set(inputs)
        stages = {stage.setting.stage: stage.schema for node in graph.nodes for stage in node.stages}
        loaded = {
            "kind": "loaded",
            "stages": {name: rows.encode_schema(schema) for name, schema in stages.items()},
            "outputs": {name: rows.encode_schema(graph.schemas[name]) for name in header["outputs"]},
        }
        wire.send(self._end, loaded)

    def _finish(self, name: str) -> None:
        graph = self._at_work()
        graph.finish(name)
        self._open.discard(name)
        if not self._open:
            self._tell_counts(last=True)
            wire.send(self._end, {"kind": "done"})

    def rows(self, node: str, batch: pa.RecordBatch) -> None:
        """Rows of a transformation: out, when a destination takes them."""
        if node in self._wanted:
            for at in range(0, batch.num_rows, BATCH_ROWS):
                wire.send(self._end, {"kind": "rows", "node": node}, rows.encode(batch.slice(at, BATCH_ROWS)))

    def rejected(self, message: Rejected) -> None:
        """Rows a rule refused: out."""
        header = {"node": message.node, "stage": message.stage, "rule": message.rule, "reason": message.reason}
        wire.send(self._end, {"kind": "rejected", **header}, rows.encode(message.rows))

    def passed(self, stage: str, batch: pa.RecordBatch) -> None:
        """Rows that left a stage: the first of them out, when samples were asked for."""
        room = self._samples - self._sampled[stage]
        if room > 0 and batch.num_rows:
            sample = batch.slice(0, room)
            self._sampled[stage] += sample.num_rows
            wire.send(self._end, {"kind": "sample", "stage": stage}, rows.encode(sample))
        self._tell_counts()

    def _printed(self, stage: str, text: str) -> None:
        """What the user's Python printed: out, unless it was only to learn its fields."""
        if self._graph is not None:
            wire.send(self._end, {"kind": "printed", "stage": stage, "text": text})

    def _tell_counts(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._counted_at >= _COUNTS_EVERY_SECONDS:
            self._counted_at = now
            for counts in self._at_work().counts():
                wire.send(self._end, {"kind": "counts", "counts": asdict(counts)})


def serve(end: socket.socket, lock: Lock, facts: Facts) -> None:
    """Answer frames until the host closes the wire; the first error is the last answer."""
    try:
        session = Session(end, lock)
        wire.send(end, {"kind": "ready", "facts": facts.as_dict()})
        while (frame := wire.receive(end)) is not None:
            session.take(frame)
    except OSError:
        return  # the host is gone, and with it everybody who could be told
    except PlatformError as error:
        wire.send(end, _error(error.code, error.detail, error))
    except (MemoryError, duckdb.OutOfMemoryException):
        wire.send(end, _error("sandbox-memory", memory_sentence(lock.memory_bytes)))
    except Exception as error:
        wire.send(end, _error("sandbox-killed", f"the steps failed: {type(error).__name__}: {error}"[:1000]))
    # What is still on its way in is dropped, so that the answer above is read and not lost with the wire.
    while wire.receive(end) is not None:
        pass


def _error(code: str, detail: str, error: PlatformError | None = None) -> dict[str, Any]:
    errors = [asdict(one) for one in error.errors] if error else []
    return {"kind": "error", "code": code, "detail": detail, "errors": errors}
