"""The run process: forked with its imports done, then one job at a time, told over the wire it was born with.

The template is started by `runprocess` as `python -P -m dataaggregator.dataplane.process DESCRIPTOR`.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from dataaggregator.connector.kept import Kept
from dataaggregator.connector.registry import connector_types
from dataaggregator.dataplane.chunked import runner_for
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.forking.host import Lent
from dataaggregator.dataplane.forking.template import fork_on_request
from dataaggregator.dataplane.job import (
    Answered,
    Cancel,
    Finished,
    MayCommit,
    Prepare,
    ProbeJob,
    Ready,
    RunJob,
    read_order,
)
from dataaggregator.dataplane.probe import answer
from dataaggregator.dataplane.redaction import Redaction
from dataaggregator.dataplane.replicating.replication import Replication
from dataaggregator.dataplane.report import Reporter, ReportHandler
from dataaggregator.dataplane.runner import Runner
from dataaggregator.dataplane.sandbox.spawning import SandboxForks
from dataaggregator.dataplane.warm import WarmSandbox
from dataaggregator.dataplane.wire import Wire, WireClosedError

SHORT_SECONDS = 1.0
"""After a job so short there is little to tidy up, and the next one may wait already."""


class RunProcess:
    """Reads orders for as long as the executor lives; without the executor there is nobody to work for."""

    def __init__(self, wire: Wire, forks: SandboxForks, failpoints: Failpoints) -> None:
        self._wire = wire
        self._forks = forks
        self._failpoints = failpoints
        self._report = Reporter(wire)
        self._kept = Kept()
        self._sandboxes: WarmSandbox | None = None
        self._runner: Runner | Replication | None = None
        self._work: asyncio.Task[None] | None = None
        logging.getLogger().addHandler(ReportHandler(self._report))
        logging.getLogger("dataaggregator").setLevel(logging.INFO)

    async def serve(self) -> None:
        while True:
            match read_order(await self._wire.receive()):
                case Prepare() as prepare:
                    self._sandboxes = WarmSandbox(prepare.sandbox, Path(prepare.spill_folder), self._forks)
                    self._start(self._ready(self._sandboxes))
                case Cancel():
                    if self._runner is not None:
                        self._runner.cancel()
                case MayCommit():
                    self._report.may_commit()
                case RunJob() | ProbeJob() as job if self._sandboxes is not None:
                    self._start(self._job(job, self._sandboxes))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = asyncio.create_task(work)
        self._work.add_done_callback(_end_if_failed)

    async def _job(self, job: RunJob | ProbeJob, sandboxes: WarmSandbox) -> None:
        uses = job.connectors.values() if isinstance(job, RunJob) else job.uses
        self._report.redact(Redaction.of(uses, job.mask_key))
        began = time.monotonic()
        self._report.tell(await self._result(job, sandboxes))
        await self._report.flush()
        await sandboxes.close_taken()
        await self._ready(sandboxes, tidy=time.monotonic() - began > SHORT_SECONDS)

    async def _result(self, job: RunJob | ProbeJob, sandboxes: WarmSandbox) -> Finished | Answered:
        if isinstance(job, ProbeJob):
            return await answer(job, sandboxes, self._report)
        self._runner = _work_of(job)(job, self._report, sandboxes, self._failpoints, self._kept)
        try:
            return Finished(outcome=await self._runner.run())
        finally:
            self._runner = None

    async def _ready(self, sandboxes: WarmSandbox, *, tidy: bool = True) -> None:
        await sandboxes.ready()
        if tidy:
            gc.collect()
            gc.freeze()
        self._report.tell(Ready())


def _work_of(job: RunJob) -> type[Runner] | type[Replication]:
    if job.definition.replicate is not None:
        return Replication
    return runner_for(job)


def _end_if_failed(work: asyncio.Task[None]) -> None:
    """A failure outside the job's own handling is a bug: end, so that the executor sees a lost process, not silence."""
    if not work.cancelled() and (error := work.exception()) is not None:
        traceback.print_exception(error)
        os._exit(70)


async def _main(descriptor: int, *channels: int) -> None:
    wire = await Wire.over(socket.socket(fileno=descriptor))
    forks = SandboxForks(*(Lent(socket.socket(fileno=channel)) for channel in channels))
    try:
        await RunProcess(wire, forks, Failpoints.from_environment()).serve()
    except WireClosedError:
        os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    connector_types()  # imports every installed connector: warm means no import is left
    born = fork_on_request(socket.socket(fileno=int(sys.argv[1])))
    os.environ.clear()
    os.environ.update(born.request["environment"])
    uvloop.run(_main(*born.held))
