"""One transformation at work in the process of the test: what comes out of its steps, what they reject and count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.sandbox.messages import Rejected, StageCounts
from dataaggregator.dataplane.sandbox.python.door import Door
from dataaggregator.dataplane.steps.engine import Engine
from dataaggregator.dataplane.steps.node import Graph, NodeSpec

_STEP: TypeAdapter[Step] = TypeAdapter(Step)


@dataclass
class Outcome:
    """What came out of one transformation."""

    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    batches: list[pa.RecordBatch] = field(default_factory=list)
    refused: list[Rejected] = field(default_factory=list)
    counts: Sequence[StageCounts] = ()

    def rows(self, node: str, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)

    def rejected(self, message: Rejected) -> None:
        self.refused.append(message)

    def passed(self, stage: str, batch: pa.RecordBatch) -> None:
        pass

    @property
    def table(self) -> pa.Table:
        return pa.Table.from_batches(self.batches, self.schema)

    @property
    def values(self) -> list[dict[str, Any]]:
        return self.table.to_pylist()


@dataclass(frozen=True)
class Around:
    """What steps find around them."""

    engine: Engine
    parameters: Mapping[str, Any] = field(default_factory=dict)
    mask_key: bytes | None = None
    python: Door | None = None


def through(
    steps: Sequence[Mapping[str, Any]], tables: Mapping[str, pa.Table], around: Around, batch_rows: int
) -> Outcome:
    """Run steps over tables, the flow first, in batches of at most so many rows."""
    stages = tuple(f"t[{at}]" for at in range(len(steps)))
    spec = NodeSpec("t", tuple(tables), tuple(_STEP.validate_python(step) for step in steps), stages)
    outcome, schemas = Outcome(), {name: table.schema for name, table in tables.items()}
    graph = Graph(
        [spec], schemas, around.engine, around.parameters, outcome, mask_key=around.mask_key, python=around.python
    )
    outcome.schema = graph.schemas["t"]
    for name, table in tables.items():
        for batch in table.to_batches(max_chunksize=batch_rows):
            graph.push(name, batch)
        graph.finish(name)
    outcome.counts = graph.counts()
    return outcome
