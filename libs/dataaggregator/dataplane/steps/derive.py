"""derive: set fields to the value of an expression over the row as it came in. Law: read = written."""

import pyarrow as pa

from dataaggregator.contracts.steps import DeriveStep
from dataaggregator.dataplane.steps.base import Flow, Outlet, RowStage, Setting
from dataaggregator.dataplane.steps.expressions import Expressions
from dataaggregator.dataplane.steps.names import position


class Derive(RowStage):
    """The engine sees only what the expressions need; every other field stays as it is."""

    kind = "derive"

    def __init__(self, step: DeriveStep, schema: pa.Schema, setting: Setting) -> None:
        texts = [(f"derive.{name}", text) for name, text in step.derive.items()]
        self._expressions = Expressions(setting, schema, texts)
        self._names = list(step.derive)
        for name, kind in zip(self._names, self._expressions.types, strict=True):
            field = pa.field(name, kind)
            at = position(schema, name) if name in schema.names else None
            schema = schema.append(field) if at is None else schema.set(at, field)
        super().__init__(setting, schema)

    def change(self, flow: Flow, outlet: Outlet) -> Flow:  # noqa: ARG002 (nothing is refused here)
        columns = dict(zip(flow.rows.schema.names, flow.rows.columns, strict=True))
        columns |= dict(zip(self._names, self._expressions.evaluate(flow.rows), strict=True))
        arrays = [columns[name] for name in self.schema.names]
        return flow.with_rows(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
