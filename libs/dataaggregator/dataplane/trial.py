"""A transformation tried on a sample: the same compiler, sandbox and laws as in a run; rows go nowhere."""

import dataclasses
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.source import ReadRequest
from dataaggregator.contracts.ledger import LedgerEdge, LedgerStage
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.dataplane.batch import Batch, RejectedRow
from dataaggregator.dataplane.book import write_up
from dataaggregator.dataplane.compile.graph import compile_transformation
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan, SourceNode, TransformNode
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.failures import at
from dataaggregator.dataplane.flow import STEPS, Flow, Reader
from dataaggregator.dataplane.ledger import judge
from dataaggregator.dataplane.showing import plain, rows_as_json, schema_as_json
from dataaggregator.dataplane.tally import Tally
from dataaggregator.dataplane.warm import WarmSandbox
from dataaggregator.errors import Invalid

Sample = Mapping[str, list[dict[str, Any]]]


async def try_out(
    definition: TransformationDefinition, sample: Sample, sandboxes: WarmSandbox, limit: int, mask_key: str
) -> dict[str, Any]:
    """The answer of `POST /api/transformations/test`; at most `limit` rows of each stage are shown."""
    node = dataclasses.replace(compile_transformation(definition), road="sandbox")
    inputs = node.inputs
    if definition.inputs is None and len(sample) == 1:
        (rows,) = sample.values()
        sample = {inputs[0]: rows}
    missing = [name for name in inputs if name not in sample]
    if missing:
        raise Invalid("sample-invalid", f"The sample has no rows for {', '.join(missing)}.")
    tables = {name: sample_table(name, sample[name]) for name in inputs}
    plan = Plan(tuple(SourceNode(name) for name in inputs), (node,), (DestinationNode(0, node.name),))
    sandbox = await sandboxes.take()
    with at(STEPS):
        schemas = {name: table.schema for name, table in tables.items()}
        outputs = await sandbox.load((node,), schemas, (node.name,), samples=limit, mask_key=mask_key)
    kept, refused = Output(limit), Refused(limit)
    flow = Flow(
        plan=plan,
        readers={name: _reader(name, table) for name, table in tables.items()},
        outlets={node.name: ("output", kept)},
        tally=Tally(),
        quarantine=refused,
        failpoints=Failpoints(),
        sandbox=sandbox,
    )
    await flow.run()
    written = write_up(plan, flow.tally)
    return {
        "output": kept.rows,
        "schema": schema_as_json(outputs[node.name]),
        "steps": [
            _step(stage, node, flow, sandbox.stage_schemas) for stage in written.stages if stage.kind != "source"
        ],
        "rejected": refused.rows,
        "balanced": _balanced(written.stages, [*written.edges], written.producers[node.name].stage, kept.count),
    }


def sample_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A sample's rows with the types they show; a field missing in some rows is NULL there."""
    names = dict.fromkeys(field for row in rows for field in row)
    if not names:
        raise Invalid("sample-invalid", f"The sample of {name} has no field: give it a row with one at least.")
    try:
        return pa.table({field: pa.array([row.get(field) for row in rows]) for field in names})
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise Invalid("sample-invalid", f"A field in the sample of {name} has no one type: {error}.") from error
    except OverflowError as error:
        detail = f"A whole number in the sample of {name} is beyond 64 bits: write it with a decimal point."
        raise Invalid("sample-invalid", detail) from error


def _balanced(stages: Sequence[LedgerStage], edges: list[LedgerEdge], last: str, count: int) -> bool:
    end = LedgerStage(stage="output", kind="destination", read=count)
    written = next(stage.written for stage in stages if stage.stage == last)
    edges.append(LedgerEdge(from_=last, to="output", handed_over=written, taken=count))
    return judge(UUID(int=0), [*stages, end], edges).balanced


def _step(stage: LedgerStage, node: TransformNode, flow: Flow, schemas: Mapping[str, pa.Schema]) -> dict[str, Any]:
    shown = flow.samples.get(stage.stage, [])
    names = [node.stage(at) for at in range(len(node.steps))]
    counts = stage.model_dump(mode="json", exclude={"stage", "bytes", "batches", "duration_ms"}, exclude_none=True)
    schema = schemas.get(stage.stage)
    return {
        "name": stage.stage,
        "index": names.index(stage.stage),
        **counts,
        "schema": None if schema is None else schema_as_json(schema),
        **({"printed": flow.printed[stage.stage]} if stage.stage in flow.printed else {}),
        "sample": [row for batch in shown for row in rows_as_json(batch)],
    }


def _reader(name: str, table: pa.Table) -> Reader:
    request = ReadRequest(stream=name)
    batches = table.to_batches(max_chunksize=request.batch_rows)
    return Reader(name, SampleSource([Batch(batch, read=batch.num_rows) for batch in batches]), request)


class SampleSource:
    """A source of rows that are at hand."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    async def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        del request
        for batch in self._batches:
            yield batch


class Output:
    """All rows counted, and the first of them kept: a step may make millions of a few."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows: list[dict[str, Any]] = []
        self.count = 0

    async def write(self, batch: pa.RecordBatch) -> None:
        self.count += batch.num_rows
        self.rows += rows_as_json(batch.slice(0, self._most - len(self.rows)))


class Refused:
    """The first of the rows that a run would set aside."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows: list[dict[str, Any]] = []

    def add_unreadable(self, stage: str, rejected: Sequence[RejectedRow]) -> None:
        shown = rejected[: self._room]
        self.rows += [{"step": stage, "rule": one.code, "reason": one.reason, "row": plain(one.row)} for one in shown]

    def add_refused(self, stage: str, rule: str, reason: str, rows: pa.RecordBatch) -> None:
        shown = rows_as_json(rows.slice(0, self._room))
        self.rows += [{"step": stage, "rule": rule, "reason": reason, "row": row} for row in shown]

    @property
    def _room(self) -> int:
        return self._most - len(self.rows)
