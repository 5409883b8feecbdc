"""Writes the ledger's stages and edges from what was counted: trusted counts here, the sandbox's beside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dataaggregator.contracts.ledger import LedgerEdge, LedgerInput, LedgerStage
from dataaggregator.dataplane.compile.plan import Plan, TransformNode
from dataaggregator.dataplane.ledger import FREE, QUARANTINE
from dataaggregator.dataplane.sandbox.messages import StageCounts
from dataaggregator.dataplane.tally import Counted, Tally


@dataclass(frozen=True)
class Producer:
    """Whose rows a node gives: its last stage, and how many that one wrote."""

    stage: str
    written: int


@dataclass(frozen=True)
class WrittenUp:
    stages: tuple[LedgerStage, ...]
    edges: tuple[LedgerEdge, ...]
    producers: Mapping[str, Producer]
    """By node; what a destination takes comes from one of them."""


def write_up(plan: Plan, tally: Tally) -> WrittenUp:
    """Everything up to the destinations, which stand on their own: each has its own outcome."""
    book = _Book(tally)
    for source in plan.sources:
        book.add_source(source.name, tally.sources[source.name])
    for node in plan.transforms:
        book.add_transform(node)
    return WrittenUp(tuple(book.stages), tuple(book.edges), book.producers)


class _Book:
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.producers: dict[str, Producer] = {}
        self.stages: list[LedgerStage] = []
        self.edges: list[LedgerEdge] = []

    def add_source(self, name: str, counted: Counted) -> None:
        stage = trusted_stage(name, counted)
        self.stages.append(stage.model_copy(update={"columns": self._tally.columns.get(name)}))
        self._set_aside(name, counted.rejected)
        self.producers[name] = Producer(name, counted.written)

    def add_transform(self, node: TransformNode) -> None:
        producer = self.producers[node.inputs[0]]
        for name, kind in node.stages:
            stage = self._projected(node, name, kind) or self._reported(node, name, kind)
            self.stages.append(stage)
            self._join_up(producer, stage, node)
            self._set_aside(stage.stage, stage.rejected)
            producer = Producer(stage.stage, stage.written)
        self.producers[node.name] = producer

    def _projected(self, node: TransformNode, name: str, kind: str) -> LedgerStage | None:
        counted = self._tally.projections.get(node.name)
        if counted is None:
            return None
        return trusted_stage(name, counted).model_copy(update={"kind": kind})

    def _reported(self, node: TransformNode, name: str, kind: str) -> LedgerStage:
        """A stage that never said anything counted nothing; its edges then tell that rows are missing."""
        counts = self._tally.reported.get(name)
        if counts is None:
            counts = StageCounts(name, node.name, kind, "unaccounted" if kind in FREE else "proven", 0, 0)
        everything = sum(one.read for one in counts.inputs.values())
        return LedgerStage(
            stage=counts.stage,
            kind=counts.kind,
            accounting=counts.accounting,
            read=everything if counts.kind == "sql" else counts.read,
            written=counts.written,
            filtered=sum(counts.filtered.values()),
            rejected=sum(counts.rejected.values()),
            filtered_by=dict(counts.filtered),
            rejected_by=dict(counts.rejected),
            warned_by=dict(counts.warned),
            inputs=tuple(_inputs(counts)),
            fan_out=counts.fan_out,
            groups=counts.groups,
            counted=counts.counted,
            kept=counts.kept,
            duplicates=counts.duplicates,
            marked=counts.marked,
            deleted=counts.deleted,
            lengths=counts.lengths,
            empty=counts.empty,
            doubled=counts.doubled,
            invented=counts.invented,
            expect=counts.expect,
            pushed_down=name in self._tally.left_out,
            flow=counts.flow,
            batches=counts.batches,
            duration_ms=round(counts.duration_ms),
        )

    def _join_up(self, producer: Producer, stage: LedgerStage, node: TransformNode) -> None:
        """The flow comes from the stage before; every other input a stage read comes from that node's last stage."""
        counts = self._tally.reported.get(stage.stage)
        others = {} if counts is None else {name: one for name, one in counts.inputs.items() if name in node.inputs[1:]}
        if stage.kind == "join":
            flow = sum(one.read for one in stage.inputs if one.input not in others)
        else:
            flow = stage.read - sum(one.read for one in others.values())
        self._edge(producer, stage.stage, flow)
        for name, one in others.items():
            self._edge(self.producers[name], stage.stage, one.read)

    def _edge(self, producer: Producer, taker: str, taken: int) -> None:
        self.edges.append(LedgerEdge(from_=producer.stage, to=taker, handed_over=producer.written, taken=taken))

    def _set_aside(self, stage: str, rejected: int) -> None:
        quarantined = self._tally.quarantined[stage]
        if rejected or quarantined:
            self.edges.append(LedgerEdge(from_=stage, to=QUARANTINE, handed_over=rejected, taken=quarantined))


def trusted_stage(name: str, counted: Counted) -> LedgerStage:
    return LedgerStage(
        stage=name,
        kind=counted.kind,
        read=counted.read,
        written=counted.written,
        rejected=counted.rejected,
        bytes=counted.bytes,
        batches=counted.batches,
        duration_ms=counted.duration_ms,
    )


def _inputs(counts: StageCounts) -> Iterator[LedgerInput]:
    if counts.kind != "join":
        return
    for name, one in counts.inputs.items():
        yield LedgerInput(input=name, read=one.read, matched=one.matched or 0, unmatched=one.unmatched or 0)
