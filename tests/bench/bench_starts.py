"""What it takes until a sandbox and a run process can be used, one after the other: time, and processor time.

Processor time is of everything below, from the start to the end of the process; what is started once for all of them
(an interpreter with its imports) is left out, as the difference between few and many.
"""

import asyncio
import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

from dataaggregator.dataplane.processes import PoolSettings, ProcessPool
from dataaggregator.dataplane.sandbox.host import Sandbox
from dataaggregator.dataplane.sandbox.messages import SandboxLimits
from tests.bench.table import percentiles, show

FEW, MANY = 2, 42


async def sandboxes(folder: Path, count: int) -> list[float]:
    pool, times = ProcessPool(PoolSettings(warm=0, folder=folder)), []
    await pool.open()
    for number in range(count):
        began = time.perf_counter()
        sandbox = await Sandbox.start(SandboxLimits(folder / str(number)), pool.templates.sandboxes.forks)
        times.append(time.perf_counter() - began)
        await sandbox.close()
    await pool.close()
    return times


async def run_processes(folder: Path, count: int) -> list[float]:
    pool, times = ProcessPool(PoolSettings(warm=0, idle=0, folder=folder)), []
    await pool.open()
    for _ in range(count):
        began = time.perf_counter()
        async with pool.take(uuid4()):
            times.append(time.perf_counter() - began)
    await pool.close()
    return times


def processor_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measure(name: str, start: Callable[[Path, int], Coroutine[Any, Any, list[float]]]) -> list[str]:
    spent, times = [processor_seconds()], []
    with tempfile.TemporaryDirectory() as folder:
        for count in (FEW, MANY):
            times = asyncio.run(start(Path(folder), count))
            spent.append(processor_seconds())
    few, many = (after - before for before, after in itertools.pairwise(spent))
    return [name, f"{times[0] * 1000:.0f}", *percentiles(times[1:]), f"{(many - few) / (MANY - FEW) * 1000:.1f}"]


def main() -> None:
    rows = [measure("sandbox", sandboxes), measure("run process", run_processes)]
    show("until it can be used", ("", "first ms", "p50 ms", "p95 ms", "CPU ms each"), rows)


if __name__ == "__main__":
    main()
