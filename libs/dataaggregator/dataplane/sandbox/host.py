"""The trusted side's handle on one sandbox process: start, load, push and take rows, end it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

import pyarrow as pa

from dataaggregator.contracts.steps import MaskStep, PythonStep
from dataaggregator.dataplane.compile.plan import TransformNode
from dataaggregator.dataplane.forking.host import Forked, last_words
from dataaggregator.dataplane.sandbox import rows, values, wire
from dataaggregator.dataplane.sandbox.answers import PYTHON_LOST, cause_of_death, decode_error, decode_output
from dataaggregator.dataplane.sandbox.messages import Done, Output, SandboxLimits
from dataaggregator.dataplane.sandbox.processor import ProcessorTime
from dataaggregator.dataplane.sandbox.python.host import PythonProcess
from dataaggregator.dataplane.sandbox.spawning import SandboxForks, limits_frame
from dataaggregator.errors import Permanent, PlatformError

START_SECONDS = 60.0
END_SECONDS = 10.0


class Sandbox:
    """One process (one more where a step is Python), for one workspace, for one load. `push` and `outputs` must run
    at the same time.

    A process that dies raises Permanent (`sandbox-memory`, `sandbox-timeout`, `sandbox-disk`, `sandbox-killed`)
    from whatever is waited for; what the user's SQL did wrong raises Invalid.
    """

    def __init__(self, process: Forked, end: socket.socket, limits: SandboxLimits, forks: SandboxForks) -> None:
        self._process = process
        self._end = end
        self._limits = limits
        self._forks = forks
        self._stderr = asyncio.create_task(last_words(process.stderr))
        self._time = ProcessorTime(process.pid, limits.cpu_seconds)
        self._error: PlatformError | None = None
        self._over = asyncio.Event()
        self._sending = asyncio.Lock()
        self.python: PythonProcess | None = None
        self.facts: Mapping[str, Any] = {}
        self.stage_schemas: Mapping[str, pa.Schema] = {}

    @classmethod
    async def start(cls, limits: SandboxLimits, forks: SandboxForks) -> Self:
        """Have a process forked and locked down: bound to no workspace yet."""
        limits.spill.mkdir(parents=True, exist_ok=True)
        ours, theirs = wire.pair()
        with theirs:
            try:
                process = await forks.engine.fork(limits.spill, theirs.fileno())
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        sandbox = cls(process, ours, limits, forks)
        try:
            async with asyncio.timeout(START_SECONDS):
                await sandbox._send(limits_frame(limits, spills=True))
                ready = await sandbox._answer("ready")
        except BaseException:
            await sandbox.close()
            raise
        sandbox.facts = ready.header["facts"]
        return sandbox

    @property
    def pid(self) -> int:
        """The process, for whoever watches over it."""
        return self._process.pid

    async def load(
        self,
        transforms: Sequence[TransformNode],
        inputs: Mapping[str, pa.Schema],
        outputs: Sequence[str],
        *,
        parameters: Mapping[str, Any] | None = None,
        samples: int = 0,
        mask_key: str | None = None,
    ) -> Mapping[str, pa.Schema]:
        """Bind every expression; gives the schemas of the outputs (those of all stages: `stage_schemas`).

        `inputs` are the sources by name, `transforms` in topological order, `samples` asks for that many rows
        from every stage; `mask_key` goes in only if a step hashes with it. What does not bind raises Invalid with
        step, line and column.
        """
        header = {
            "kind": "load",
            "nodes": [_node(node) for node in transforms],
            "inputs": {name: rows.encode_schema(schema) for name, schema in inputs.items()},
            "outputs": list(outputs),
            "parameters": values.encode(parameters or {}),
            "samples": samples,
            "mask_key": mask_key if _hashes(transforms) else None,
        }
        self._time.renew()
        if any(isinstance(step, PythonStep) for node in transforms for step in node.steps):
            await self._start_python()
        await self._send(header)
        loaded = (await self._answer("loaded")).header
        self.stage_schemas = {name: rows.decode_schema(text) for name, text in loaded["stages"].items()}
        return {name: rows.decode_schema(text) for name, text in loaded["outputs"].items()}

    async def _start_python(self) -> None:
        """The process of the user's Python: the sandbox gets the wire to it, and may start none itself."""
        self.python, end = await PythonProcess.start(self._limits, self._forks.python)
        with end:
            await self._send({"kind": "python", "seconds": self._limits.python_seconds})
            socket.send_fds(self._end, [b"\0"], [end.fileno()])

    async def push(self, input: str, batch: pa.RecordBatch) -> None:  # noqa: A002 (the word of the definitions)
        """Hand over rows of one source; returns when the wire has taken them."""
        body = rows.encode(batch)
        del batch  # what is sent is in memory once
        await self._send({"kind": "push", "input": input}, body)

    async def finish(self, input: str) -> None:  # noqa: A002 (the word of the definitions)
        """No more rows will come from this source."""
        await self._send({"kind": "finish", "input": input})

    async def outputs(self) -> AsyncIterator[Output]:
        """Everything that comes out, Done last. Must be taken while rows are pushed."""
        while True:
            message = decode_output(await self._receive())
            yield message
            if isinstance(message, Done):
                return

    async def close(self) -> None:
        """End the process and wait until it is gone."""
        self.kill()
        await self._process.wait()
        if self.python is not None:
            await self.python.close()
        await self._stderr
        self._end.close()

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()

    async def _send(self, header: Mapping[str, Any], body: Any = b"") -> None:
        """One frame after the other: sources push at the same time, and a frame is sent in several pieces."""
        try:
            async with self._sending:
                await wire.send_async(self._end, header, body)
        except OSError as error:
            raise await self._reason() from error

    async def _answer(self, kind: str) -> wire.Frame:
        frame = await self._receive()
        if frame.kind != kind:
            raise Permanent("sandbox-killed", f"the sandbox answered {frame.kind} where {kind} was due")
        return frame

    async def _receive(self) -> wire.Frame:
        try:
            frame = await wire.receive_async(self._end, pa.allocate_buffer)
        except (OSError, wire.BrokenWireError):
            frame = None
        if frame is None:
            self._error = await self._death()
        elif frame.kind == "error" and frame.header.get("code") == PYTHON_LOST and self.python is not None:
            self._error = await self.python.death(str(frame.header.get("detail")))
        elif frame.kind == "error":
            self._error = decode_error(frame)
        else:
            self._time.renew()
            return frame
        self._over.set()
        raise self._error

    async def _reason(self) -> PlatformError:
        """Why nothing can be sent any more: what the reader of outputs was told, else how the process died."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._over.wait()
        return self._error or await self._death()

    async def _death(self) -> PlatformError:
        try:
            async with asyncio.timeout(END_SECONDS):
                status = await self._process.wait()
        except TimeoutError:
            self.kill()
            status = await self._process.wait()
        return cause_of_death(status, await self._stderr, self._limits)


def _hashes(transforms: Sequence[TransformNode]) -> bool:
    masks = (step.mask for node in transforms for step in node.steps if isinstance(step, MaskStep))
    return any("hash" in mask.values() for mask in masks)


def _node(node: TransformNode) -> Mapping[str, Any]:
    return {
        "name": node.name,
        "path": node.path,
        "inputs": list(node.inputs),
        "steps": [step.model_dump(mode="json", by_alias=True, exclude_none=True) for step in node.steps],
        "stages": [stage for stage, _ in node.stages],
        "keep": list(node.keep),
        "delete_when": node.delete_when,
    }
