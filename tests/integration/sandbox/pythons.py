"""Python steps over a real locked process, with the engine and the counts here: many steps for one start."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataaggregator.dataplane.sandbox import wire
from dataaggregator.dataplane.sandbox.messages import SandboxLimits
from dataaggregator.dataplane.sandbox.processor import used_seconds
from dataaggregator.dataplane.sandbox.python.door import Door
from dataaggregator.dataplane.sandbox.spawning import PYTHON, limits_frame
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


class Template:
    """A template for tests that have no event loop. Closing it ends what it forked."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", PYTHON, str(theirs.fileno())],
                env={},
                cwd="/",
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def locked(self, limits: SandboxLimits) -> "Locked":
        """A process of the user's Python."""
        (status, theirs), (ours, end) = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), wire.pair()
        with theirs, end, Path("/dev/null").open("wb") as stderr:
            descriptors = [theirs.fileno(), stderr.fileno(), end.fileno()]
            socket.send_fds(self._channel, [b'{"folder": "/"}'], descriptors)
        wire.send(ours, limits_frame(limits, spills=False))
        return Locked(int(status.recv(32)), status, ours)

    def close(self) -> None:
        """End it."""
        self._channel.close()
        self._process.wait()


@dataclass(frozen=True)
class Locked:
    """A process of the user's Python, and the other end of its wire."""

    pid: int
    status: socket.socket
    end: socket.socket

    def close(self) -> float:
        """End the process; gives the processor time that it took."""
        self.end.close()
        os.kill(self.pid, signal.SIGKILL)
        self.status.recv(32)
        spent = used_seconds(self.pid)  # what it left is there until the channel is closed
        self.status.close()
        return spent


class PythonSteps:
    """The process is started at the first use, and again when a step has ended it."""

    def __init__(self, folder: Path, limits: SandboxLimits | None = None) -> None:
        self._limits = limits or SandboxLimits(folder)
        self._engine = Engine(1 << 30, folder, 1 << 30)
        self._template: Template | None = None
        self._process: Locked | None = None
        self._door: Door | None = None
        self.printed: list[str] = []
        self.starts = 0
        self.spent = 0.0
        """Processor time of the processes that have ended."""

    def start(self) -> None:
        """Unless one is at work."""
        if self._process is None:
            if self._template is None:
                self._template = Template()
            self._process = self._template.locked(self._limits)
            self._door = Door(
                self._process.end,
                self._limits.python_seconds,
                self._limits.spill_bytes,
                lambda _, text: self._keep(text),
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
            self.stop()  # the process is gone, or at work still
            raise
        assert not outcome.refused
        return outcome

    def close(self) -> None:
        """End the process and its template."""
        self.stop()
        if self._template is not None:
            self._template.close()

    def stop(self) -> None:
        """End the process; the next step has another one."""
        if self._process is not None:
            self.spent += self._process.close()
            self._process = None

    def _keep(self, text: str) -> None:
        self.printed.append(text)
