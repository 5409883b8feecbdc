"""Starts untrusted processes with nothing in their hands but one end of a wire, and keeps their last words."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataaggregator.dataplane.allocators import COUNTED
from dataaggregator.dataplane.sandbox.messages import SandboxLimits

STDERR_LIMIT_BYTES = 16 << 10
_MODULE = "dataaggregator.dataplane.sandbox.process"


async def spawn(descriptor: int, folder: Path) -> asyncio.subprocess.Process:
    """A process that waits for its limits on the wire's end `descriptor`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        _MODULE,
        str(descriptor),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=COUNTED,
        cwd=folder,
        pass_fds=(descriptor,),
        start_new_session=True,
    )


def limits_frame(limits: SandboxLimits, *, spills: bool) -> Mapping[str, Any]:
    """The first frame to it; what does not spill is the process of the user's Python."""
    return {
        "kind": "limits",
        "spill": str(limits.spill) if spills else None,
        "memory_bytes": limits.memory_bytes,
        "cpu_seconds": limits.cpu_seconds,
        "spill_bytes": limits.spill_bytes,
        "strict": limits.level == "strict",
    }


async def last_words(stream: asyncio.StreamReader | None) -> str:
    """What the process said on stderr, at most so much of it; the rest is read and dropped."""
    said = b""
    while stream is not None and (chunk := await stream.read(4096)):
        said = (said + chunk)[:STDERR_LIMIT_BYTES]
    return said.decode(errors="replace")
