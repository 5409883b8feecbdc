"""One pass of rows: sources read side by side, steps in the sandbox, outlets written; counted at every edge."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from dataaggregator.connector.source import ReadRequest
from dataaggregator.dataplane.allocators import give_back
from dataaggregator.dataplane.batch import Batch, Cursor, LeftOut, RejectedRow
from dataaggregator.dataplane.compile.plan import Plan
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.failures import at
from dataaggregator.dataplane.inflight import BatchQueue
from dataaggregator.dataplane.projection import Projection
from dataaggregator.dataplane.sandbox.host import Sandbox
from dataaggregator.dataplane.sandbox.messages import Done, Printed, Rejected, Rows, Sample, StageCounts
from dataaggregator.dataplane.tally import Counted, Tally

STEPS = "transformations"
MUCH_BYTES = 16 * 1024 * 1024
"""A source that gave so much has left so much of it behind that it is worth a few milliseconds to give it back."""
_log = logging.getLogger(__name__)


class Readable(Protocol):
    """What of a source is needed to read it."""

    def read(self, request: ReadRequest) -> AsyncGenerator[Batch]: ...


@dataclass(frozen=True)
class Reader:
    """A source and what to read of it; `kind` is that of its stage."""

    name: str
    source: Readable
    request: ReadRequest
    kind: str = "source"


class Outlet(Protocol):
    """Where a node's rows go: a destination, or the spool."""

    async def write(self, batch: pa.RecordBatch) -> None: ...


class Aside(Protocol):
    """Where rejected rows go: the quarantine, or the answer of a trial."""

    def add_unreadable(self, stage: str, rejected: Sequence[RejectedRow]) -> None: ...

    def add_refused(self, stage: str, rule: str, reason: str, rows: pa.RecordBatch) -> None: ...


@dataclass(frozen=True)
class Flow:
    """With a sandbox all transformations run in it; without one they are projections or there are none."""

    plan: Plan
    readers: Mapping[str, Reader]
    outlets: Mapping[str, tuple[str, Outlet]]
    """By node: the stage's name and where its rows go."""
    tally: Tally
    quarantine: Aside
    failpoints: Failpoints
    copies: Mapping[str, Outlet] = field(default_factory=dict)
    """By node: where its rows are kept as well."""
    sandbox: Sandbox | None = None
    projections: Mapping[str, Projection] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)
    """By source: where reading goes on after the rows of this pass."""

    samples: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    """By stage, when the sandbox was asked for samples."""

    printed: dict[str, str] = field(default_factory=dict)
    """By stage, what the user's Python printed."""

    async def run(self) -> None:
        """Returns when every row is at its outlet; the first failure ends all."""
        for name, reader in self.readers.items():
            self.tally.sources[name] = Counted(reader.kind)
            if reader.request.columns is not None:
                self.tally.columns[name] = reader.request.columns
        for name in self.projections:
            self.tally.projections[name] = Counted("projection")
        async with asyncio.TaskGroup() as tasks:
            for reader in self.readers.values():
                self._start_source(reader, tasks)
            if self.sandbox is not None:
                self._start_sandbox_outputs(self.sandbox, tasks)

    def _start_source(self, reader: Reader, tasks: asyncio.TaskGroup) -> None:
        queues = []
        if self.sandbox is not None and reader.name in self.plan.sandbox_inputs:
            queues.append(BatchQueue())
            tasks.create_task(self._push(reader.name, queues[-1], self.sandbox))
        if self._straight_nodes(reader.name):
            queues.append(BatchQueue())
            tasks.create_task(self._straight(reader.name, queues[-1]))
        tasks.create_task(self._read(reader, queues))

    def _start_sandbox_outputs(self, sandbox: Sandbox, tasks: asyncio.TaskGroup) -> None:
        queues = {name: BatchQueue() for name in self.plan.sandbox_outputs}
        tasks.create_task(self._collect(sandbox, queues))
        for name, queue in queues.items():
            tasks.create_task(self._deliver(name, queue))

    async def _read(self, reader: Reader, queues: list[BatchQueue]) -> None:
        counted = self.tally.sources[reader.name]
        with at(reader.name):
            async with aclosing(reader.source.read(reader.request)) as batches:
                async for batch in batches:
                    if batch.left_out is not None:
                        self._leave_out(reader.name, batch.left_out)
                    counted.read += batch.read
                    counted.rejected += len(batch.rejected)
                    counted.bytes += batch.rows.nbytes
                    if batch.rejected:
                        self.quarantine.add_unreadable(reader.name, batch.rejected)
                        self.tally.quarantined[reader.name] += len(batch.rejected)
                    if batch.rows.num_rows:
                        counted.batches += 1
                        counted.written += batch.rows.num_rows
                        for queue in queues:
                            await queue.put(batch.rows)
                    if batch.cursor is not None:
                        self.cursors[reader.name] = batch.cursor
        counted.ended = time.monotonic()
        if counted.bytes > MUCH_BYTES:
            give_back()  # reading is over; what it needed is in the way of writing
        for queue in queues:
            await queue.end()

    def _leave_out(self, source: str, left_out: LeftOut) -> None:
        """They are rows of the source, and the filter behind it has let none of them pass."""
        counted, taker = self.tally.sources[source], next(n for n in self.plan.transforms if n.inputs[0] == source)
        self.tally.left_out[taker.stage(0)] = left_out
        counted.read += left_out.rows
        counted.written += left_out.rows

    async def _push(self, source: str, queue: BatchQueue, sandbox: Sandbox) -> None:
        with at(STEPS):
            while await self._more(queue):
                await sandbox.push(source, await queue.take())  # nobody else holds it while it is sent
            await sandbox.finish(source)

    async def _collect(self, sandbox: Sandbox, queues: Mapping[str, BatchQueue]) -> None:
        with at(STEPS):
            async for message in sandbox.outputs():
                match message:
                    case Rows(node, batch):
                        await queues[node].put(batch)
                    case StageCounts():
                        self.tally.report(message)
                    case Rejected():
                        self.quarantine.add_refused(message.stage, message.rule, message.reason, message.rows)
                        self.tally.quarantined[message.stage] += message.rows.num_rows
                    case Sample(stage, batch):
                        self.samples.setdefault(stage, []).append(batch)
                    case Printed(stage, text):
                        self.printed[stage] = text
                        _log.info("%s printed: %s", stage, text)
                    case Done():
                        break
        for queue in queues.values():
            await queue.end()

    async def _deliver(self, node: str, queue: BatchQueue) -> None:
        async for batch in self._taken(queue):
            for stage, outlet in self._takers(node):
                with at(stage):
                    await outlet.write(batch)

    def _takers(self, node: str) -> Iterator[tuple[str, Outlet]]:
        if node in self.outlets:
            yield self.outlets[node]
        if node in self.copies:
            yield node, self.copies[node]

    async def _straight(self, source: str, queue: BatchQueue) -> None:
        """Without the sandbox: each projection below this source in order, each outlet as its rows are there."""
        nodes = self._straight_nodes(source)
        async for batch in self._taken(queue):
            rows = {source: batch}
            for node in self.plan.transforms:
                if node.name in nodes:
                    rows[node.name] = self.projections[node.name](rows[node.inputs[0]])
                    self.tally.projections[node.name].read += batch.num_rows
                    self.tally.projections[node.name].written += batch.num_rows
            for name in nodes:
                if name in self.outlets:
                    stage, outlet = self.outlets[name]
                    with at(stage):
                        await outlet.write(rows[name])

    def _straight_nodes(self, source: str) -> tuple[str, ...]:
        """The nodes whose rows are this source's without the sandbox; none when nobody takes any of them."""
        found = [source]
        for node in self.plan.transforms:
            if self.sandbox is None and node.inputs[0] in found:
                found.append(node.name)
        return tuple(found) if any(name in self.outlets for name in found) else ()

    async def _taken(self, queue: BatchQueue) -> AsyncIterator[pa.RecordBatch]:
        while await self._more(queue):
            yield await queue.take()

    async def _more(self, queue: BatchQueue) -> bool:
        while await queue.more():
            if not self.failpoints.reached("run.drop_batch"):
                return True
            await queue.take()
        return False
