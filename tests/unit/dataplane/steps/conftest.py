"""Steps at work in this process, on a small engine of their own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.sandbox.messages import Rejected, StageCounts
from dataaggregator.dataplane.steps import gathered
from dataaggregator.dataplane.steps.engine import Engine
from dataaggregator.dataplane.steps.node import Graph, NodeSpec

MASK_KEY = b"the key of one workspace"
_STEP: TypeAdapter[Step] = TypeAdapter(Step)


@dataclass
class Outcome:
    """What came out of one transformation."""

    schema: pa.Schema
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


Transform = Callable[..., Outcome]


@contextmanager
def portions_of(size_bytes: int | None) -> Iterator[None]:
    """Inside, set-wise steps work on so little at a time; None leaves it as it is."""
    with pytest.MonkeyPatch.context() as patched:
        if size_bytes is not None:
            patched.setattr(gathered, "WHOLE_BYTES", 2 * size_bytes)
            patched.setattr(gathered, "PORTION_BYTES", size_bytes)
        yield


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder: Path = tmp_path_factory.mktemp("spill")
    return Engine(1 << 30, folder, 1 << 30)


@pytest.fixture(scope="session")
def transform(engine: Engine) -> Transform:
    """`transform(steps, flow, other=table, …)`: run steps over tables in batches of at most `batch_rows`."""

    def run(
        steps: Sequence[Mapping[str, Any]],
        flow: pa.Table | Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any] | None = None,
        batch_rows: int = 1000,
        mask_key: bytes | None = MASK_KEY,
        **others: pa.Table | Sequence[Mapping[str, Any]],
    ) -> Outcome:
        given = {"flow": flow, **others}
        tables = {n: t if isinstance(t, pa.Table) else pa.Table.from_pylist(list(t)) for n, t in given.items()}
        spec = NodeSpec(
            "t",
            tuple(tables),
            tuple(_STEP.validate_python(step) for step in steps),
            tuple(f"t[{at}]" for at in range(len(steps))),
        )
        outcome = Outcome(pa.schema([]))
        schemas = {name: table.schema for name, table in tables.items()}
        graph = Graph([spec], schemas, engine, parameters or {}, outcome, mask_key=mask_key)
        outcome.schema = graph.schemas["t"]
        for name, table in tables.items():
            for batch in table.to_batches(max_chunksize=batch_rows):
                graph.push(name, batch)
            graph.finish(name)
        outcome.counts = graph.counts()
        return outcome

    return run
