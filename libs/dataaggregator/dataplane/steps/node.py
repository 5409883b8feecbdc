"""One transformation at work: its steps in segments, each of row-wise steps and perhaps a set-wise one behind them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from dataaggregator.contracts.steps import Step
from dataaggregator.dataplane.sandbox.messages import Rejected, StageCounts
from dataaggregator.dataplane.sandbox.python.door import Door
from dataaggregator.dataplane.steps.base import Flow, ManyStage, RowStage, SetStage, Setting, Stage
from dataaggregator.dataplane.steps.build import build
from dataaggregator.dataplane.steps.engine import Engine
from dataaggregator.dataplane.steps.keep import Keep


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A transformation to be set to work; `stages` are the names of its steps, or of its `keep`."""

    name: str
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    stages: tuple[str, ...]
    path: str = ""
    keep: tuple[str, ...] = ()
    delete_when: str | None = None


class NodeOutlet(Protocol):
    """Where what leaves a transformation goes."""

    def rows(self, node: str, batch: pa.RecordBatch) -> None:
        """Rows behind the last step."""

    def rejected(self, message: Rejected) -> None:
        """Rows a rule refused."""

    def passed(self, stage: str, batch: pa.RecordBatch) -> None:
        """Rows that left a stage, to be looked at."""


@dataclass(slots=True)
class _Segment:
    rows: list[RowStage | ManyStage] = field(default_factory=list)
    whole: SetStage | None = None


class Node:
    """Takes rows of its inputs as they come, gives rows as soon as it can."""

    def __init__(
        self,
        spec: NodeSpec,
        inputs: Mapping[str, pa.Schema],
        engine: Engine,
        parameters: Mapping[str, Any],
        outlet: NodeOutlet,
        *,
        mask_key: bytes | None = None,
        python: Door | None = None,
    ) -> None:
        self.name = spec.name
        self.inputs = spec.inputs
        self._outlet = outlet
        self._open = set(spec.inputs)
        self._segments = [_Segment()]
        self.stages: list[Stage] = []
        self.schema = inputs[spec.inputs[0]]
        if spec.keep:
            setting = Setting(engine, spec.name, spec.stages[0], spec.path, parameters)
            held = {name: inputs[name] for name in spec.inputs}
            self._add(Keep(spec.keep, spec.delete_when, self.schema, setting, held))
            return
        for at, (step, stage) in enumerate(zip(spec.steps, spec.stages, strict=True)):
            path = f"{spec.path}.steps[{at}]" if spec.path else f"steps[{at}]"
            setting = Setting(engine, spec.name, stage, path, parameters, mask_key, python)
            self._add(build(step, self.schema, setting, {name: inputs[name] for name in spec.inputs}))

    def _add(self, stage: RowStage | ManyStage | SetStage) -> None:
        self.stages.append(stage)
        self.schema = stage.schema
        if isinstance(stage, RowStage | ManyStage):
            self._segments[-1].rows.append(stage)
        else:
            self._segments[-1].whole = stage
            self._segments.append(_Segment())

    def push(self, name: str, batch: pa.RecordBatch) -> None:
        """Rows of one input."""
        if name == self.inputs[0]:
            self._forward(0, batch)
            return
        for segment in self._segments:
            if segment.whole is not None and name in segment.whole.inputs:
                segment.whole.take(name, batch)

    def finish(self, name: str) -> bool:
        """One input has ended; True when all have, and everything is out."""
        self._open.discard(name)
        if self._open:
            return False
        for at, segment in enumerate(self._segments):
            if segment.whole is not None:
                # What the rows needed on their way in is in the way of what is made of them.
                segment.whole.setting.engine.give_back()
                for batch in segment.whole.give():
                    self._outlet.passed(segment.whole.setting.stage, batch)
                    self._forward(at + 1, batch)
        return True

    def _forward(self, at: int, batch: pa.RecordBatch) -> None:
        segment = self._segments[at]
        flows: Iterator[Flow] = iter((Flow(batch, batch),))
        for stage in segment.rows:
            flows = self._through(stage, flows)
        for flow in flows:
            if not flow.rows.num_rows:
                continue
            if segment.whole is not None:
                segment.whole.take(self.inputs[0], flow.rows)
            else:
                self._outlet.rows(self.name, flow.rows)

    def _through(self, stage: RowStage | ManyStage, flows: Iterator[Flow]) -> Iterator[Flow]:
        """One piece after the other, so that only one of them is held."""
        for flow in flows:
            given = stage.give(flow) if isinstance(stage, ManyStage) else (stage.apply(flow, self._outlet),)
            for piece in given:
                self._outlet.passed(stage.setting.stage, piece.rows)
                yield piece

    def counts(self) -> Sequence[StageCounts]:
        """The counts of every stage up to now."""
        return [stage.counts() for stage in self.stages]


class Graph:
    """Several transformations, each fed by sources and by others before it."""

    def __init__(
        self,
        specs: Sequence[NodeSpec],
        sources: Mapping[str, pa.Schema],
        engine: Engine,
        parameters: Mapping[str, Any],
        outlet: NodeOutlet,
        *,
        mask_key: bytes | None = None,
        python: Door | None = None,
    ) -> None:
        self.schemas = dict(sources)
        self.nodes: list[Node] = []
        self._outlet = outlet
        for spec in specs:
            node = Node(spec, self.schemas, engine, parameters, self, mask_key=mask_key, python=python)
            self.schemas[spec.name] = node.schema
            self.nodes.append(node)

    def push(self, name: str, batch: pa.RecordBatch) -> None:
        """Rows of a source, or of a transformation, to all that take them."""
        for node in self.nodes:
            if name in node.inputs:
                node.push(name, batch)

    def finish(self, name: str) -> None:
        """A source, or a transformation, has ended."""
        for node in self.nodes:
            if name in node.inputs and node.finish(name):
                self.finish(node.name)

    def rows(self, node: str, batch: pa.RecordBatch) -> None:
        """Rows behind a transformation: to the others, and out."""
        self._outlet.rows(node, batch)
        self.push(node, batch)

    def rejected(self, message: Rejected) -> None:
        """Rows a rule refused: out."""
        self._outlet.rejected(message)

    def passed(self, stage: str, batch: pa.RecordBatch) -> None:
        """Rows that left a stage: out, to be looked at."""
        self._outlet.passed(stage, batch)

    def counts(self) -> Sequence[StageCounts]:
        """The counts of every stage up to now."""
        return [counts for node in self.nodes for counts in node.counts()]
