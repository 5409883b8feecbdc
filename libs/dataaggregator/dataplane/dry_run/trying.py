"""A definition at work on its sample: the ledger it would write, and the rows it would hand over."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.source import ReadRequest
from dataaggregator.contracts.ledger import Ledger, LedgerEdge, LedgerStage
from dataaggregator.dataplane.book import write_up
from dataaggregator.dataplane.compile.plan import Plan, SourceNode
from dataaggregator.dataplane.deletes import count, marks
from dataaggregator.dataplane.dry_run.sampling import Taken
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.failures import at
from dataaggregator.dataplane.flow import STEPS, Flow, Reader
from dataaggregator.dataplane.ledger import judge
from dataaggregator.dataplane.sandbox.host import Sandbox
from dataaggregator.dataplane.tally import Counted, Tally
from dataaggregator.dataplane.trial import Refused, SampleSource
from dataaggregator.dataplane.warm import WarmSandbox
from dataaggregator.errors import Permanent

TRY_SECONDS = 14.0
HELD_BYTES = 16 * 1024 * 1024
SHOWN_ROWS = 20
SHOWN_REJECTED = 50


class Held:
    """The rows of a node, counted, and kept as long as they are not too many to be compared."""

    def __init__(self) -> None:
        self.count = 0
        self._bytes = 0
        self._batches: list[pa.RecordBatch] = []

    async def write(self, batch: pa.RecordBatch) -> None:
        self.count += batch.num_rows
        self._bytes += batch.nbytes
        if self._bytes > HELD_BYTES:
            self._batches.clear()
        else:
            self._batches.append(batch)

    def deletes(self, field: str | None) -> int | None:
        """Rows that say that theirs is to go; raises Invalid where one says what nobody knows."""
        if field is None or self._bytes > HELD_BYTES:
            return None
        return sum(count(marks(batch, field)) for batch in self._batches)

    def table(self, schema: pa.Schema) -> pa.Table | None:
        return None if self._bytes > HELD_BYTES else pa.Table.from_batches(self._batches, schema)


class Trying:
    """`run` once; what it has counted until then can be looked at whatever becomes of it."""

    def __init__(self, plan: Plan, taken: Mapping[str, Taken], values: Mapping[str, Any]) -> None:
        self._plan = plan
        self._taken = taken
        self._values = values
        self.schemas = {node.name: taken[node.source].schema for node in plan.sources}
        """By node, as far as they are known."""
        self.stage_schemas: Mapping[str, pa.Schema] = dict(self.schemas)
        self.held = {node.input: Held() for node in plan.destinations}
        self.refused = Refused(SHOWN_REJECTED)
        self.samples: dict[str, list[pa.RecordBatch]] = {}
        self.tally = Tally()
        self.begun = self.finished = False

    async def run(self, sandboxes: WarmSandbox, mask_key: str, samples: int) -> None:
        """Every transformation goes through the sandbox here, also where a run has a faster road: it shows its rows.

        What takes too long is ended with its sandbox, so that the other definition still has its turn.
        """
        with at(STEPS):
            sandbox = await sandboxes.take() if self._plan.transforms else None
            try:
                async with asyncio.timeout(TRY_SECONDS) as limit:
                    await self._work(sandbox, mask_key, samples)
            except TimeoutError as error:
                if not limit.expired():
                    raise
                detail = f"The steps did not end with the sample within {TRY_SECONDS:g} seconds."
                raise Permanent("sandbox-timeout", detail) from error
            finally:
                await sandboxes.close_taken()

    async def _work(self, sandbox: Sandbox | None, mask_key: str, samples: int) -> None:
        if sandbox is not None:
            inputs = {name: self.schemas[name] for name in self._plan.sandbox_inputs}
            self.schemas |= await sandbox.load(
                *(self._plan.transforms, inputs, self._plan.sandbox_outputs),
                parameters=self._values,
                samples=samples,
                mask_key=mask_key,
            )
            self.stage_schemas = {**self.stage_schemas, **sandbox.stage_schemas}
        flow = Flow(
            plan=self._plan,
            readers={node.name: self._reader(node) for node in self._plan.sources},
            outlets={name: ("output", held) for name, held in self.held.items()},
            tally=self.tally,
            quarantine=self.refused,
            failpoints=Failpoints(),
            sandbox=sandbox,
            samples=self.samples,
        )
        self.begun = True
        await flow.run()
        self.finished = True

    def _reader(self, node: SourceNode) -> Reader:
        taken = self._taken[node.source]
        batches = (taken.kept if node.kept else taken.new).batches
        self.samples[node.name] = [batch.rows for batch in batches]
        return Reader(node.name, SampleSource(batches), ReadRequest(stream=node.name), node.kind)

    def ledger(self, names: Sequence[str]) -> Ledger:
        """With a line for each destination, which are named in their order, that ends at what it would take."""
        for node in self._plan.sources:
            self.tally.sources.setdefault(node.name, Counted(node.kind))
        written = write_up(self._plan, self.tally)
        stages, edges = [*written.stages], [*written.edges]
        for destination in self._plan.destinations:
            name, count = names[destination.index], self.held[destination.input].count
            producer = written.producers[destination.input]
            stages.append(LedgerStage(stage=name, kind="destination", read=count))
            edges.append(LedgerEdge(from_=producer.stage, to=name, handed_over=producer.written, taken=count))
        return judge(UUID(int=0), stages, edges)

    def cut_short(self) -> Iterator[str]:
        """The steps that would see other rows beside the ones they see here."""
        for node in self._plan.transforms:
            behind = self._plan.upstream([node.name])
            short = sorted(
                {
                    one.source
                    for one in self._plan.sources
                    if one.name in behind and not self._taken[one.source].complete
                }
            )
            for (stage, _), step in zip(node.stages, node.steps, strict=False):
                if short and step.set_wise:
                    yield f"{stage} sees only the sampled rows of {', '.join(short)}: with all of them it gives others."
