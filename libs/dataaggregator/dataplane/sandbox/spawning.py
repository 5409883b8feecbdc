"""The templates of untrusted processes, and what each process is told first."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataaggregator.dataplane.allocators import COUNTED
from dataaggregator.dataplane.forking.host import Forks, Template
from dataaggregator.dataplane.sandbox.messages import SandboxLimits

ENGINE = "dataaggregator.dataplane.sandbox.process"
PYTHON = "dataaggregator.dataplane.sandbox.python.process"


@dataclass(frozen=True, slots=True)
class SandboxForks:
    """What the two kinds of untrusted processes are had from: with the engine, and for the user's Python."""

    engine: Forks
    python: Forks


class SandboxTemplates:
    """For any number of run processes: nothing of any of them is in these. They stand in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.engine = Template(ENGINE, "-I", environment=COUNTED, folder=folder)
        self.python = Template(PYTHON, "-I", environment=COUNTED, folder=folder)
        self.forks = SandboxForks(self.engine, self.python)

    async def close(self) -> None:
        """End both, with every process that they forked."""
        await self.engine.close()
        await self.python.close()


def limits_frame(limits: SandboxLimits, *, spills: bool) -> Mapping[str, Any]:
    """The first frame to either; the process of the user's Python does not spill."""
    return {
        "kind": "limits",
        "spill": str(limits.spill) if spills else None,
        "memory_bytes": limits.memory_bytes,
        "cpu_seconds": limits.cpu_seconds,
        "spill_bytes": limits.spill_bytes,
        "strict": limits.level == "strict",
    }
