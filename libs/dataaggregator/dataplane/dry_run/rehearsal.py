"""One definition of a dry run, from its text to what is told of it; what goes wrong with it is told, not raised."""

import asyncio
import contextlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dataaggregator.connector.source import ReadRequest
from dataaggregator.contracts.dry_run import (
    Candidate,
    DryRunError,
    ForeseenDestination,
    RejectedSample,
    SampledSource,
    Tried,
    TriedStage,
    WrongField,
)
from dataaggregator.contracts.ledger import LedgerStage
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.closing import refuse
from dataaggregator.dataplane.compile.graph import compile_pipeline
from dataaggregator.dataplane.compile.kept import with_kept
from dataaggregator.dataplane.compile.parameters import parameter_values
from dataaggregator.dataplane.compile.plan import DestinationNode
from dataaggregator.dataplane.dry_run.foreseeing import Drawn, foresee, foresee_reads
from dataaggregator.dataplane.dry_run.sampling import Sampling, Taken
from dataaggregator.dataplane.dry_run.trying import SHOWN_ROWS, Trying
from dataaggregator.dataplane.failures import at, leaf, run_error
from dataaggregator.dataplane.job import DryRunJob
from dataaggregator.dataplane.opening import Opening, without_parameters
from dataaggregator.dataplane.report import Reporter
from dataaggregator.dataplane.showing import a_page, rows_as_json, schema_as_json
from dataaggregator.dataplane.warm import WarmSandbox
from dataaggregator.errors import PlatformError


@dataclass(frozen=True)
class Tools:
    """What every definition of a dry run is tried with."""

    job: DryRunJob
    mask_key: str
    opening: Opening
    sandboxes: WarmSandbox
    report: Reporter


class Rehearsal:
    """`draw`, `take`, `try_out`, `foresee`, in this order; behind the first that fails the others do nothing."""

    def __init__(self, candidate: Candidate, tools: Tools) -> None:
        self._candidate = candidate
        self._tools = tools
        self._asked: dict[str, asyncio.Task[Taken]] = {}
        self._taken: dict[str, Taken] = {}
        self._reads: Mapping[str, ReadRequest] = {}
        self._destinations: dict[int, ForeseenDestination] = {}
        self._error: DryRunError | None = None
        self.drawn: Drawn | None = None
        self.trying: Trying | None = None

    def draw(self) -> dict[str, Cursor]:
        """Where its sources would be read on."""
        definition, job = self._candidate.definition, self._tools.job
        with self._noting():
            values = parameter_values(definition.parameters, self._candidate.parameters)
            plan = with_kept(compile_pipeline(definition), definition)
            self.drawn = Drawn(definition, values, plan, job.asked.pipeline_id)
            return self.drawn.cursors(job)
        return {}

    def take(self, sampling: Sampling) -> None:
        if self.drawn is not None and self._error is None:
            for name, source in self.drawn.definition.sources.items():
                self._asked[name] = sampling.take(name, source, self.drawn.values)

    async def try_out(self) -> None:
        if self.drawn is None or self._error is not None:
            return
        with self._noting():
            for name, task in self._asked.items():
                with at(name):
                    self._taken[name] = await task
            self.trying = Trying(self.drawn.plan, self._taken, self.drawn.values)
            samples = SHOWN_ROWS if self._tools.job.asked.show_rows else 0
            await self.trying.run(self._tools.sandboxes, self._tools.mask_key, samples)
            ledger = self.trying.ledger(self.drawn.names)
            counts = self.trying.tally.counts()
            refuse(ledger, self.drawn.definition.on_rejected, counts.rows_read, counts.rows_rejected)

    async def foresee(self) -> None:
        """Of every destination whose rows have a schema: the steps may have failed behind that."""
        if self.drawn is not None and self.trying is not None:
            nodes = [node for node in self.drawn.plan.destinations if node.input in self.trying.schemas]
            looks = (self._foresee(self.drawn, self.trying, node) for node in nodes)
            await asyncio.gather(self._foresee_reads(self.drawn), *looks)

    async def _foresee_reads(self, drawn: Drawn) -> None:
        schemas = {name: taken.schema for name, taken in self._taken.items()}
        if self._error is not None:
            return
        with self._noting():
            self._reads = await foresee_reads(drawn, schemas, self._tools.job, self._tools.opening)

    async def _foresee(self, drawn: Drawn, trying: Trying, node: DestinationNode) -> None:
        schema, definition = trying.schemas[node.input], drawn.definition.destinations[node.index]
        found: dict[str, Any] = {"row_schema": schema_as_json(schema)}
        try:
            if trying.finished:
                held = trying.held[node.input]
                found["rows"] = held.count
                with at(drawn.names[node.index]):
                    found["deletes"] = held.deletes(definition.delete_when)
            seen = await foresee(drawn, node, schema, self._tools.job, self._tools.opening)
            changes, left = tuple(seen.prepared.changes), tuple(seen.prepared.left)
            found |= {"changes": changes, "left": left, "road": seen.road}
        except Exception as error:
            found["error"] = explained(error, self._tools.report)
        self._destinations[node.index] = as_defined(drawn, node.index).model_copy(update=found)

    def told(self) -> Tried:
        drawn, trying = self.drawn, self.trying
        if drawn is None or trying is None:
            sources = tuple(self._source(name, taken) for name, taken in self._taken.items())
            return Tried(ok=False, sources=sources, error=self._error)
        destinations = [
            self._destinations.get(index) or as_defined(drawn, index)
            for index in range(len(drawn.definition.destinations))
        ]
        ledger = trying.ledger(drawn.names)
        return Tried(
            ok=self._error is None and not any(one.error for one in destinations),
            sources=tuple(self._source(name, taken) for name, taken in self._taken.items()),
            stages=tuple(self._stage(trying, stage) for stage in ledger.stages) if trying.begun else (),
            edges=ledger.edges if trying.begun else (),
            accounting=ledger.accounting if trying.finished else None,
            balanced=ledger.balanced if trying.finished else None,
            violations=ledger.violations if trying.finished else (),
            rejected=self._rejected(trying),
            destinations=tuple(destinations),
            warnings=tuple(self._warnings(drawn, trying)),
            error=self._error,
        )

    def _source(self, name: str, taken: Taken) -> SampledSource:
        definition = self._candidate.definition.sources[name]
        values = {} if self.drawn is None else self.drawn.values
        return SampledSource(
            name=name,
            connector=definition.connector_name,
            stream=None if definition.stream is None else without_parameters(definition.stream, values),
            read=definition.read,
            rows=taken.new.read + taken.kept.read,
            rejected=taken.new.rejected + taken.kept.rejected,
            complete=taken.complete,
            begins=None if taken.begins is None else taken.begins.to_json(),
            columns=None if name not in self._reads else self._reads[name].columns,
            row_schema=schema_as_json(taken.schema),
        )

    def _stage(self, trying: Trying, stage: LedgerStage) -> TriedStage:
        schema, sample = trying.stage_schemas.get(stage.stage), None
        if self._tools.job.asked.show_rows and stage.kind != "destination":
            batches = trying.samples.get(stage.stage, ())
            sample = a_page((row for batch in batches for row in rows_as_json(batch.slice(0, SHOWN_ROWS))), SHOWN_ROWS)
        shown = None if schema is None else schema_as_json(schema)
        told = stage.model_dump(by_alias=False) | {"pushed_down": stage.stage in self._pushed_down()}
        return TriedStage(**told, row_schema=shown, sample=sample)

    def _pushed_down(self) -> Iterator[str]:
        """The filters that a run would have its sources do."""
        for name, request in self._reads.items():
            if request.condition is not None and self.drawn is not None:
                yield from (node.stage(0) for node in self.drawn.plan.transforms if node.inputs[0] == name)

    def _rejected(self, trying: Trying) -> tuple[RejectedSample, ...] | None:
        if not self._tools.job.asked.show_rows:
            return None
        return tuple(
            RejectedSample.model_validate(row) for row in a_page(trying.refused.rows, len(trying.refused.rows))
        )

    def _warnings(self, drawn: Drawn, trying: Trying) -> Iterator[str]:
        for taken in self._taken.values():
            yield from taken.warnings
        yield from trying.tally.warnings()
        allowed, counts = drawn.definition.on_rejected, trying.tally.counts()
        if allowed is not None and allowed.then == "warn" and allowed.exceeded(counts.rows_rejected, counts.rows_read):
            yield allowed.told(counts.rows_rejected, counts.rows_read)
        yield from trying.cut_short()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._error = explained(error, self._tools.report)


def explained(error: Exception, report: Reporter) -> DryRunError:
    """Where and why, by field where it is the definition's fault; what is nobody's is logged."""
    cause, _ = leaf(error)
    wrong: list[WrongField] = []
    if isinstance(cause, PlatformError):
        wrong = [WrongField(field=one.field, message=one.message, code=one.code) for one in cause.errors]
    else:
        trace = "".join(traceback.format_exception(cause))
        report.log("error", "a dry run failed", trace=trace)
    return DryRunError(**run_error(error).model_dump(), errors=tuple(wrong))


def as_defined(drawn: Drawn, index: int) -> ForeseenDestination:
    """Before it is looked at."""
    definition = drawn.definition.destinations[index]
    return ForeseenDestination(
        connector=definition.connector_name,
        stream=without_parameters(definition.stream, drawn.values),
        write=definition.write,
    )
