"""Python steps over a real locked process, with the engine and the counts here: many steps for one start."""

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataaggregator.dataplane.sandbox import wire
from dataaggregator.dataplane.sandbox.messages import SandboxLimits
from dataaggregator.dataplane.sandbox.python.door import Door
from dataaggregator.dataplane.sandbox.spawning import limits_frame
from dataaggregator.dataplane.steps.engine import Engine
from dataaggregator.errors import Permanent
from tests.graphs import Around, Outcome, through

HEAD = "import pyarrow as pa\nimport pyarrow.compute as pc\ndef transform(rows):\n"


def python(body: str, **more: Any) -> dict[str, Any]:
    """A step of which this is the function's body."""
    return {"python": HEAD + "".join(f"    {line}\n" for line in body.splitlines()), **more}


def at_work(body: str) -> str:
    """A function's body that does this only where there are rows, not when its fields are asked for."""
    return "if len(rows):\n" + "".join(f"    {line}\n" for line in body.splitlines()) + "return rows"


def locked(limits: SandboxLimits) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A process of the user's Python and the other end of its wire."""
    ours, theirs = wire.pair()
    command = [sys.executable, "-I", "-m", "dataaggregator.dataplane.sandbox.process", str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            command,
            env={},
            cwd="/",
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    wire.send(ours, limits_frame(limits, spills=False))
    return process, ours


class PythonSteps:
    """The process is started at the first use, and again when a step has ended it."""

    def __init__(self, folder: Path, limits: SandboxLimits | None = None) -> None:
        self._limits = limits or SandboxLimits(folder)
        self._engine = Engine(1 << 30, folder, 1 << 30)
        self._process: subprocess.Popen[bytes] | None = None
        self._end: socket.socket | None = None
        self._door: Door | None = None
        self.printed: list[str] = []
        self.starts = 0

    def start(self) -> None:
        """Unless one is at work."""
        if self._process is None:
            self._process, self._end = locked(self._limits)
            self._door = Door(
                self._end, self._limits.python_seconds, self._limits.spill_bytes, lambda _, text: self._keep(text)
            )
            self.starts += 1

    @property
    def pid(self) -> int:
        """The process at work."""
        assert self._process is not None
        return self._process.pid

    def __call__(
        self,
        steps: Sequence[Mapping[str, Any]],
        flow: pa.Table,
        *,
        batch_rows: int = 1000,
        parameters: Mapping[str, Any] | None = None,
        **others: pa.Table,
    ) -> Outcome:
        self.start()
        try:
            around = Around(self._engine, parameters or {}, python=self._door)
            outcome = through(steps, {"flow": flow, **others}, around, batch_rows)
        except Permanent:
            self.close()  # the process is gone, or at work still
            raise
        assert not outcome.refused
        return outcome

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._end is not None:
            self._process.kill()
            self._process.wait()
            self._end.close()
            self._process = None

    def _keep(self, text: str) -> None:
        self.printed.append(text)
